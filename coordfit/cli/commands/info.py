"""Run `coordfit info`: print the contents of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...backends import get_backend
from ...codec import bits_of_parts
from ...codec.container import is_compressed
from ...files import printable
from ...images.metrics import bits_per_pixel
from ...models.format import model_in
from ...signals.facts import SignalFacts
from ...tasks.compress import open_compressed
from ...tasks.folders.run_folder import describe_settings
from ...tasks.load import load_networks
from ..exit_codes import EXIT_OK
from ..options import Options
from ..streams import print_json


def run(options: Options) -> int:
    """Print picture, network, size and figures of a model."""
    file = model_in(options.model)
    if is_compressed(file):
        return _say(_of_compressed(file), options)
    model = load_networks(file, get_backend("cpu"))
    size = file.stat().st_size
    picture = model.signal
    facts: dict[str, Any] = {
        "model": str(file),
        **_signal(picture),
        **describe_settings(model.config),
        "layers": list(model.layer_sizes),
        **model.facts,
        "parameters": model.num_parameters,
        "dtype": model.config.dtype,
        "bytes": size,
        "bits_per_pixel": bits_per_pixel(size, len(picture.grid)),
        "seed": model.config.seed,
    }
    if options.json:
        print_json(facts | {"config": model.config.as_dict(), "metrics": model.metrics})
        return EXIT_OK
    for name in ("psnr", "psnr_train", "psnr_held_out", "ssim", "steps", "seconds"):
        facts[name] = model.metrics.get(name)
    return _say(facts, options)


def _signal(own: SignalFacts) -> dict[str, Any]:
    """Return the facts of a picture, or of another signal with its units."""
    if own.frame is None:
        size = {"width": own.width, "height": own.height}
        return {"picture": own.name, **size, "channels": own.channels, "bit_depth": own.bit_depth}
    frame = own.frame
    shape = {"shape": "x".join(map(str, own.shape)), "axes": ", ".join(frame.axes), "channels": own.channels}
    units = {"spacing": list(frame.spacing), "origin": list(frame.origin)}
    return {"signal": own.name, **shape, **units, "lowest": list(frame.low), "highest": list(frame.high)}


def _of_compressed(file: Path) -> dict[str, Any]:
    """Return the facts of a compressed picture, and how many bits per pixel each of its parts has."""
    drawn = open_compressed(file)
    own, size = drawn.signal, file.stat().st_size
    parts = bits_of_parts(drawn.compressed)
    return {
        "picture": str(file),
        "width": own.width,
        "height": own.height,
        "channels": own.channels,
        "bit_depth": own.bit_depth,
        "latents": sum(level.size for level in drawn.compressed.latents),
        "not_zero": sum(int(np.count_nonzero(level)) for level in drawn.compressed.latents),
        "multiplications_per_pixel": drawn.multiplications_per_pixel,
        "bytes": size,
        "bits_per_pixel": bits_per_pixel(size, len(own.grid)),
        **{f"of_{name.replace(' ', '_')}": bits / (own.height * own.width) for name, bits in parts.items()},
    }


def _say(facts: dict[str, Any], options: Options) -> int:
    """Print facts in lines, or as JSON."""
    if options.json:
        print_json(facts)
        return EXIT_OK
    width = max(16, *map(len, facts))
    for name, value in facts.items():
        if value is not None:
            text = "-".join(map(str, value)) if name == "layers" else _text(value)
            print(f"{name.replace('_', ' '):<{width}} {printable(text)}")
    return EXIT_OK


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
