"""Draw a zoom: `coordfit render --zoom-to`."""

from __future__ import annotations

from pathlib import Path

from ...files import Outputs, printable
from ...images.animated import check_suffix
from ...models.rendering import Drawable
from ...report.progress import Bar
from ...tasks.zoom import SECONDS, plan_zoom
from ..exit_codes import EXIT_OK
from ..option_types import UsageError
from ..options import Options
from ..session import is_shown
from ..streams import print_json
from .render_size import shape_of


def check_zoom(options: Options) -> None:
    """Refuse, before a model is read, options and files that are not for a zoom."""
    if options.zoom_to is None:
        if options.seconds is not None:
            raise UsageError("--seconds is of a zoom; add --zoom-to X,Y,W,H, or leave it out")
        return
    others = {"crop": None, "deviation": False, "derivative": None}
    given = [f"--{name}" for name, default in others.items() if getattr(options, name) != default]
    if given:
        raise UsageError(f"--zoom-to draws the function itself; leave {given[0]} out")
    if options.method == "enlarge":
        raise UsageError("--zoom-to draws the function itself; leave --method enlarge out")
    if options.out is not None:
        check_suffix(options.out)


def draw_zoom(model: Drawable, file: Path, options: Options, **facts: str) -> int:
    """Draw the frames to a file, and print its path, or facts as JSON."""
    path = options.out or file.with_name(f"{file.stem}-zoom.webp")
    is_given = options.size is not None or options.scale is not None
    shape = shape_of(options, model) if is_given else None
    seconds = SECONDS if options.seconds is None else options.seconds
    zoom = plan_zoom(model, options.zoom_to, path, shape=shape, seconds=seconds)
    Outputs((), files=(path,)).check(path.parent, overwrite=options.overwrite)
    with Bar("frame", shown=is_shown(options), time_limited=True) as bar:
        zoom.save(path, bar.show)
    if options.json:
        size = {"width": zoom.shape[1], "height": zoom.shape[0]}
        print_json({"file": str(path), **size, "frames": zoom.count, "seconds": zoom.seconds, **facts})
    else:
        print(printable(path))
    return EXIT_OK
