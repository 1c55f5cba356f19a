"""Run `coordfit compress`: a picture as a file of few bits."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from ...codec import CompressionProgress, Compressor
from ...files import Outputs, printable
from ...images import MAX_PIXELS, Picture, load_picture
from ...report.progress import Bar
from ...tasks.compress import Compressing, CompressionResult, finished
from ...tasks.jobs.compression_checkpoint import CompressionCheckpoint
from ...training.state import CHECKPOINT_SECONDS
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop
from ..options import Options
from ..result_lines import in_words
from ..session import is_shown, make_log, say_notes
from ..streams import print_json

SUFFIX = ".cfc"
_DECIBELS, _SHARE = 0.1, 0.02  # how near a target is reached


def run(options: Options) -> int:
    """Train, write the file, print its figures."""
    log = make_log(options)
    asked = Compressing(**{spec.name: getattr(options, spec.name) for spec in dataclasses.fields(Compressing)})
    out = options.out or Path(options.image).with_suffix(SUFFIX)
    checkpoint = CompressionCheckpoint(out)
    checkpoint.check_begun(resume=options.resume, overwrite=options.overwrite)
    Outputs((), files=(out,)).check(out.parent, overwrite=options.overwrite)
    Outputs((), files=(checkpoint.path,)).check(out.parent, overwrite=True)
    picture = load_picture(
        options.image,
        size=options.size,
        background=options.background,
        max_pixels=options.max_pixels or MAX_PIXELS,
    )
    say_notes(picture, log)
    with GracefulStop() as stop:
        if options.resume:
            asked, compressor = checkpoint.resumed(asked, picture, threads=options.threads)
            log(f"going on from step {compressor.step}")
        else:
            compressor = asked.compressor(picture, threads=options.threads)
            checkpoint.drop()
        is_done = _train(compressor, asked, checkpoint, picture, options, stop)
        checkpoint.save(compressor, asked, picture)
        if is_done:
            result = finished(compressor, picture)
            result.save(out)
            checkpoint.drop()
            return _report(result, asked, out, options, log)
    saved = "nothing is saved"
    if checkpoint.path.exists():
        saved = f"{printable(checkpoint.path)} is saved, go on with the same words and --resume"
    return stop.report(f"interrupted; {saved}", log, as_json=options.json)


def _train(
    compressor: Compressor,
    asked: Compressing,
    checkpoint: CompressionCheckpoint,
    picture: Picture,
    options: Options,
    stop: GracefulStop,
) -> bool:
    """Take the steps with a progress bar and checkpoints; return whether all are taken."""
    with Bar("step", shown=is_shown(options), time_limited=True) as bar:
        saved = time.monotonic()

        def callback(progress: CompressionProgress) -> bool:
            nonlocal saved
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint.save(compressor, asked, picture)
                saved = time.monotonic()
            bar.show_compression(progress)
            return stop.is_asked_for()

        return compressor.train(callback)


def _report(
    result: CompressionResult, asked: Compressing, out: Path, options: Options, log: Callable[[str], None]
) -> int:
    report, picture = result.report, result.picture
    _say_missed(result, asked, log)
    if options.json:
        print_json({"file": str(out), "width": picture.width, "height": picture.height, **result.metrics})
        return EXIT_OK
    plain = picture.channels * picture.bit_depth
    share = 100 * report.network_bits / (8 * len(result.data))
    figures = [
        ("PSNR", report.psnr, "{:.2f} dB, all pixels"),
        ("size", len(result.data), f"{{:,d}} bytes, {share:.0f} % of them networks"),
        ("", report.bits_per_pixel, f"{{:.3f}} bits per pixel, {plain} in the plain picture"),
        ("training", report.seconds, f"{{:.1f}} s, {report.steps:,d} steps"),
    ]
    for label, words in in_words(figures):
        print(f"{label:<12} {words}")
    print(printable(out))
    return EXIT_OK


def _say_missed(result: CompressionResult, asked: Compressing, log: Callable[[str], None]) -> None:
    """Report a target that was not reached."""
    target, report = asked.target, result.report
    if target.psnr is not None and abs(report.psnr - target.psnr) > _DECIBELS:
        log(f"the target of {target.psnr:g} dB was missed by {report.psnr - target.psnr:+.2f} dB")
    wanted = target.bits_per_pixel
    if wanted is not None and abs(report.bits_per_pixel / wanted - 1) > _SHARE:
        missed = 100 * (report.bits_per_pixel / wanted - 1)
        log(f"the target of {wanted:g} bits per pixel was missed by {missed:+.1f} %")
