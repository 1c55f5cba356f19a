"""Fill the unknown values of an array by kriging: `coordfit inpaint volume.npy`."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._version import __version__
from ...files import Outputs, printable, write_json
from ...files.lock import output_folder
from ...images.metrics import psnr_from_mse, shares_within
from ...report.progress import Bar
from ...signals.arrays import ArraySignal
from ...sources.reading import ArrayOptions, read_signal
from ...sources.writing import ENDINGS, suffix_for, write_array
from ...tasks.fill_array import fill_signal
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop, how_to_begin_again
from ..option_types import UsageError
from ..options import Options
from ..session import is_shown, make_log, say_notes
from ..streams import print_json

OUTPUTS = Outputs((*(f"filled{end}" for end in ENDINGS), "deviation.npy", "config.json", "metrics.json"))
_OF_PICTURES = ("text", "scribble", "block", "truth", "animate")


def run(options: Options, how: ArrayOptions) -> int:
    """Fill what is unknown (NaN), what a mask hides, or a share that is drawn, and write the folder."""
    log, stop = make_log(options), GracefulStop()
    for name in _OF_PICTURES:
        if getattr(options, name):
            raise UsageError(f"--{name} is of pictures; hide values of an array by --mask, --missing or NaN")
    if options.method == "network":
        raise UsageError("--method network is of pictures; `coordfit fit` fits a function to an array with NaN")
    given = how.read(options.image)
    signal, has_truth = _hidden(given, options)
    say_notes(given, log)
    with output_folder(options.out, OUTPUTS, overwrite=options.overwrite) as folder:
        began, total = time.perf_counter(), int(np.count_nonzero(~_known(signal)))
        with stop, Bar("sample", shown=is_shown(options), time_limited=True) as bar:

            def callback(done: float) -> bool:
                bar.show(round(done * total), total)
                return stop.is_asked_for()

            filling = fill_signal(signal, options.threads, callback)
            if filling is not None:
                metrics = {"seconds": time.perf_counter() - began, "hidden_samples": total}
                metrics |= _figures(given, signal, *filling, has_truth=has_truth)
                return _write(given, signal, *filling, folder, options, metrics)
        reason = "interrupted; there is no filled array"
        return stop.report(f"{reason}, {how_to_begin_again(folder)}", log, as_json=options.json)


def _known(signal: ArraySignal) -> NDArray[np.bool_]:
    return np.ones(signal.samples, np.bool_) if signal.known is None else signal.known


def _hidden(given: ArraySignal, options: Options) -> tuple[ArraySignal, bool]:
    """Return the signal with some samples hidden, and whether their true values are known."""
    known = _known(given).copy()
    if options.mask is not None:
        mask = read_signal(options.mask).pixels[..., 0] > 0.5
        if mask.shape != known.shape:
            raise UsageError(f"--mask has shape {mask.shape}, and the array {known.shape}; they must agree")
        known &= ~mask if options.invert_mask else mask
    if options.missing is not None:
        rng = np.random.default_rng(options.settings.get("seed", 0))
        known &= rng.random(known.shape) >= options.missing
    if known.all():
        raise UsageError("all values are known; hide some by --mask or --missing, or make them NaN")
    if not known.any():
        raise UsageError("all values are hidden; a filling needs one at least")
    return given.with_known(known), given.unknown is None and options.mask is None


def _figures(
    given: ArraySignal,
    signal: ArraySignal,
    values: NDArray[Any],
    deviation: NDArray[Any],
    *,
    has_truth: bool,
) -> dict[str, Any]:
    """Return the figures of hidden samples; those of errors need their true values."""
    hidden = ~_known(signal)
    figures: dict[str, Any] = {
        "method": "kriging",
        "deviation_mean": float(deviation[hidden].mean()),
        "deviation_largest": float(deviation.max()),
    }
    if not has_truth:
        return figures
    truth = given.frame.restored(given.pixels.astype(np.float64))
    mse = float(np.mean(np.square(values - truth)[hidden] / np.square(given.frame.spread)))
    rmse = math.sqrt(mse) * float(given.frame.spread[0])
    return (
        figures
        | {"psnr_hidden": psnr_from_mse(mse), "rmse_hidden": rmse}
        | shares_within(values, truth, deviation, hidden)
    )


def _write(
    given: ArraySignal,
    signal: ArraySignal,
    values: NDArray[Any],
    deviation: NDArray[Any],
    folder: Path,
    options: Options,
    metrics: dict[str, Any],
) -> int:
    truth = given.frame.restored(given.pixels.astype(np.float64))
    filled = np.where(_known(signal)[..., None], truth, values)
    filled = filled if given.frame.has_channels else filled[..., 0]
    write_array(folder / f"filled{suffix_for(given.name)}", given.frame.as_source(filled), given.frame)
    write_array(folder / "deviation.npy", deviation, given.frame)
    image = str(Path(options.image).absolute())
    write_json(folder / "config.json", {"method": "kriging", "image": image, "coordfit": __version__})
    write_json(folder / "metrics.json", metrics)
    if options.json:
        print_json({"folder": str(folder), "metrics": metrics})
        return EXIT_OK
    if "psnr_hidden" in metrics:
        print(f"{'PSNR':<12} {metrics['psnr_hidden']:.2f} dB, hidden samples, by the array's own range")
    print(f"{'hidden':<12} {metrics['hidden_samples']:,d} of {_known(signal).size:,d} samples")
    print(f"{'time':<12} {metrics['seconds']:.2f} s")
    print(printable(folder))
    return EXIT_OK
