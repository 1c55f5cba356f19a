"""Run `coordfit enlarge`: a photograph at a larger size."""

from __future__ import annotations

from pathlib import Path

from ...files import Outputs, printable
from ...images import MAX_PIXELS, load_picture, save_picture
from ...report.progress import Bar
from ...tasks.enlarge import enlarged_pixels, target_size
from ..exit_codes import EXIT_OK
from ..interrupts import GracefulStop
from ..options import Options
from ..session import is_shown, make_log, say_notes
from ..streams import print_json


def run(options: Options) -> int:
    """Enlarge, write the picture, print its path."""
    log, most = make_log(options), options.max_pixels or MAX_PIXELS
    picture = load_picture(options.image, background=options.background, max_pixels=most)
    say_notes(picture, log)
    height, width = target_size(picture, options.scale, options.size, most)
    source = Path(options.image)
    path = options.out or source.with_name(f"{source.stem}-{width}x{height}.png")
    Outputs((), files=(path,)).check(path.parent, overwrite=options.overwrite)
    with GracefulStop() as stop, Bar("row", shown=is_shown(options), time_limited=True) as bar:

        def callback(done: float) -> bool:
            bar.show(round(done * height), height)
            return stop.is_asked_for()

        colours = enlarged_pixels(picture.pixels, height, width, options.threads, callback)
        if colours is not None:
            save_picture(path, colours, bit_depth=picture.bit_depth)
            if options.json:
                print_json({"picture": str(path), "width": width, "height": height})
            else:
                print(printable(path))
            return EXIT_OK
    return stop.report("interrupted; nothing is saved", log, as_json=options.json)
