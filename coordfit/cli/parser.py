"""Build the argument parser of each command."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from .._version import __version__
from ..config import FitConfig
from ..experiments import NAMES as EXPERIMENTS
from ..fit_options import DrawingMethod, ExportFormat, FillingMethod
from .option_types import (
    UsageError,
    checked,
    count,
    one_of,
    parse_crop,
    parse_part,
    parse_shape,
    parse_size,
    parse_window,
    thread_count,
)
from .shared_options import (
    IMAGE,
    add_animate,
    add_array,
    add_device,
    add_output,
    add_overwrite,
    add_seed,
    add_settings,
    add_tiles,
)

LISTED: dict[str, Sequence[str]] = {
    "fit": (),
    "compare": ("encoding", "sigma"),
    "sweep": [spec.name for spec in dataclasses.fields(FitConfig)],
    "inpaint": (),
}
"""The settings with several values, separated by commas, of each command with settings."""

_SHELLS = ("bash", "zsh", "tcsh")
_FILE_WORDS = ("IMAGE", "MODEL", "FILE", "DIR")  # metavars of paths
_MODEL = "a .safetensors file that coordfit wrote, or the folder of a run"
_ALL_DIVERGED = "the exit code is 4 if all do."
_STUDY_TILES = (
    "a network for each tile of N x N pixels, sigma in cycles per tile; auto cuts the pictures that `coordfit "
    "fit` would cut (default: none)"
)


class _Parser(argparse.ArgumentParser):
    commands: Mapping[str, argparse.ArgumentParser] = {}
    """Of the parser of all commands: theirs, by name."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (?:-\w/)?(--[\w-]+): [\w-]+ must be", r"\1 must be", message)
        joint = " " if message.endswith("?") else "; "
        raise UsageError(f"{message}{joint}see `{self.prog} --help`")


class _PrintCompletion(argparse.Action):
    """Print a shell's completion of commands and options."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        try:
            import shtab  # optional, and not for other commands
        except ImportError:
            parser.error(f"{option} needs shtab: pip install shtab")
        whole = make_parser()
        actions: list[Any] = [action for command in whole.commands.values() for action in command._actions]
        for action in actions:
            if action.metavar in _FILE_WORDS:
                action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
        print(shtab.complete(whole, values))
        parser.exit()


def make_parser() -> _Parser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="coordfit",
        description="Fit a coordinate network to a picture: a hand-written MLP learns (x, y) -> colour. "
        "The default command is `fit`: `coordfit photo.png`, `coordfit --device gpu`.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the device asked for is not there, "
        "4 diverged (of several fits: all), 5 gradient check failed, 130 interrupted after saving.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"coordfit {__version__}")
    parser.add_argument(
        "--print-completion",
        choices=_SHELLS,
        type=one_of("print-completion", _SHELLS),
        action=_PrintCompletion,
        help="print a shell's completion of commands and options",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    parser.commands = commands.choices
    for name, (words, summary, epilog, add_options) in _COMMANDS.items():
        usage = " ".join(["coordfit", name, *words, "[options]"])
        command = commands.add_parser(
            name, usage=usage, help=summary, description=summary, epilog=epilog, allow_abbrev=False
        )
        command.add_argument("--json", action="store_true", help="print one strict JSON document")
        command.add_argument("-v", "--verbose", action="store_true", help="say more; tracebacks too")
        command.add_argument("-q", "--quiet", action="store_true", help="print errors alone")
        add_options(command)
    about = commands.add_parser("help", help="say what a command does and takes", allow_abbrev=False)
    about.add_argument(
        "of", nargs="?", metavar="COMMAND", type=one_of("the command", COMMANDS), choices=COMMANDS
    )
    return parser


def _add_fit(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help=f"{IMAGE}; or several, a folder, or a pattern: then --out has a folder for each, and a table",
    )
    command.add_argument(
        "--average",
        type=count("average"),
        metavar="K",
        help="the mean of K networks of different seeds, trained as one batch, and how much they differ "
        "(default: 1)",
    )
    add_array(command)
    add_settings(command)
    add_device(command)
    output = add_output(command)
    output.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_animate(output)
    output.add_argument("--live", action="store_true", help="show the training on a local page, in the browser")
    output.add_argument("--no-browser", action="store_true", help="print the page's address alone")
    summary = (
        "a network for each tile of N x N pixels; auto cuts pictures over 256x256 (default: auto, if neither "
        "--recipe compact nor one network is asked for)"
    )
    add_tiles(command, summary, default=None).add_argument(
        "--max-pixels",
        type=count("max-pixels"),
        metavar="N",
        help="decode pictures of up to N pixels (default: 64 million; Pillow ends at 178 million)",
    )


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", nargs="?", metavar="IMAGE", help=IMAGE)
    add_settings(command, several=LISTED["compare"])
    add_tiles(command, _STUDY_TILES, default=None)
    add_device(command)
    add_animate(add_output(command))


def _add_sweep(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures that Pillow can read")
    add_settings(command, several=LISTED["sweep"])
    add_tiles(command, _STUDY_TILES, default=None, several=True)
    add_device(command)
    output = add_output(command)
    output.add_argument("--resume", action="store_true", help="continue the sweep in --out")
    output.add_argument(
        "--jobs",
        type=count("jobs"),
        default=1,
        metavar="N",
        help="processes that share the groups of equal shape (default: 1)",
    )
    output.add_argument(
        "--sort-by", default="psnr", metavar="COLUMN", help="of the table, best first (default: psnr)"
    )
    output.add_argument("--models", action="store_true", help="save every model")


def _add_inpaint(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help=f"{IMAGE} (default with --missing, --text, --scribble or --block: the bundled one)",
    )
    group = command.add_argument_group("hidden pixels (default: transparent ones)")
    ways = group.add_mutually_exclusive_group()
    ways.add_argument("--mask", type=Path, metavar="FILE", help="a picture of the same size: white is known")
    ways.add_argument(
        "--missing",
        type=checked("missing", float, lambda f: 0.0 < f < 1.0, "a number between 0 and 1"),
        metavar="FRACTION",
        help="hide this share of the pixels, drawn from --seed",
    )
    ways.add_argument("--text", metavar="WORDS", help="hide words written across the picture")
    ways.add_argument("--scribble", action="store_true", help="hide lines drawn from --seed")
    ways.add_argument("--block", type=parse_crop, metavar="X,Y,W,H", help="hide a rectangle, in pixels")
    group.add_argument("--invert-mask", action="store_true", help="white in --mask is hidden, black is known")
    group.add_argument(
        "--mask-threshold",
        type=checked("mask-threshold", float, lambda t: 0.0 < t <= 1.0, "a number above 0 and at most 1"),
        metavar="T",
        help="the level, 0 black to 1 white, from which on a grey pixel of --mask is white (default: 0.5)",
    )
    group.add_argument(
        "--truth",
        metavar="FILE",
        help="the undamaged picture, to score what fills a --mask or transparency (default: no score)",
    )
    command.add_argument(
        "--method",
        choices=get_args(FillingMethod),
        type=one_of("method", get_args(FillingMethod)),
        help="kriging, which needs no training, or a network (default: kriging, or a network if an option of "
        "one is given)",
    )
    command.add_argument(
        "--average",
        type=count("average"),
        default=1,
        metavar="K",
        help="fill with the mean of K networks of different seeds, trained as one batch (default: 1)",
    )
    add_array(command)
    add_settings(command)
    add_tiles(
        command,
        "a network for each tile of N x N pixels; auto is one network, which fills better (default: auto)",
    )
    add_device(command)
    add_animate(add_output(command))


def _add_experiments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)} (default: all of them)"
    )
    command.add_argument("--quick", action="store_true", help="small and short: figures mean little")
    command.add_argument("--image", metavar="IMAGE", help="a picture of your own instead of the bundled one")
    add_seed(command, "of all randomness")
    add_device(command)
    add_output(command)


def _add_size(command: argparse.ArgumentParser, read: Callable[[str], object] = parse_size) -> None:
    size = command.add_mutually_exclusive_group()
    size.add_argument("--size", type=read, metavar="WxH", help="in pixels, or N for the longer side")
    size.add_argument(
        "--scale",
        type=checked("scale", float, lambda s: 0.0 < s < 1e6, "a number above 0 and below 1e6"),
        metavar="S",
        help="times the picture's own size",
    )


def _add_drawing(command: argparse.ArgumentParser) -> None:
    """Add the size and the window of a drawing, how it is enlarged, and its file."""
    _add_size(command, parse_shape)
    command.add_argument(
        "--method",
        choices=get_args(DrawingMethod),
        type=one_of("method", get_args(DrawingMethod)),
        default="auto",
        help="of a larger size: function, as it is between the pixels, or enlarge, as `coordfit enlarge` does "
        "with the picture's own size (default: enlarge, unless the model saw only a part of the pixels)",
    )
    command.add_argument(
        "--crop", type=parse_window, metavar="X,Y,W,H", help="only this window, in pixels of the drawing"
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture (default: NAME-WxH.png), or .npy, .npz, .tif or .wav for numbers in their own units",
    )
    add_overwrite(command, "replace an existing file")


def _add_render(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", type=Path, help=f"{_MODEL}; or a .cfc file")
    _add_drawing(command)
    command.add_argument(
        "--deviation",
        action="store_true",
        help="draw how much the networks of a run with --average differ, beside their mean",
    )
    command.add_argument(
        "--derivative",
        metavar="KIND",
        help="the exact derivative per pixel: x, y (or another coordinate), gradient-norm, or laplacian",
    )
    zoom = command.add_argument_group("a zoom, as .webp (default), .png, .gif or, with the extra `video`, .mp4")
    zoom.add_argument(
        "--zoom-to",
        type=parse_part,
        metavar="X,Y,W,H",
        help="from the whole picture into this window of the function, in the picture's own pixels, decimals "
        "allowed; --size is that of the frames (default: its own, with the longer side from 480 to 1280)",
    )
    zoom.add_argument(
        "--seconds",
        type=checked("seconds", float, lambda s: 0.0 < s <= 600.0, "a number above 0 and at most 600"),
        metavar="S",
        help="how long it moves; then the last frame stays for 1.5 s (default: 6)",
    )
    add_device(command)


def _add_enlarge(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IMAGE", help=IMAGE)
    _add_size(command)
    command.add_argument("--background", metavar="COLOUR", help="laid under transparent pixels")
    command.add_argument(
        "--max-pixels", type=count("max-pixels"), metavar="N", help="of both pictures, at most"
    )
    command.add_argument("--threads", type=thread_count, metavar="N", help="(default: all cores)")
    command.add_argument("--out", type=Path, metavar="FILE", help="the picture (default: IMAGE-WxH.png)")
    add_overwrite(command, "replace an existing file")


def _add_compress(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", metavar="IMAGE", help=IMAGE)
    positive = "a number above 0"
    target = command.add_argument_group("what is to be reached").add_mutually_exclusive_group()
    for name, metavar, summary in (
        ("psnr", "DB", "over all pixels and channels (default: 40)"),
        ("bits-per-pixel", "B", "of the whole file"),
        ("lambda", "L", "the price of one bit per pixel, as mean squared error; about 2e-4"),
    ):
        target.add_argument(
            f"--{name}",
            dest="lmbda" if name == "lambda" else name.replace("-", "_"),
            type=checked(name, float, lambda v: 0.0 < v < float("inf"), positive),
            metavar=metavar,
            help=summary,
        )
    budget = command.add_argument_group("how long it trains").add_mutually_exclusive_group()
    budget.add_argument(
        "--seconds",
        type=checked("seconds", float, lambda v: 0.0 < v < float("inf"), positive),
        metavar="S",
        help="until the file is written; more make it smaller (default: 60, and 330 for 12 megapixels)",
    )
    budget.add_argument("--steps", type=count("steps"), metavar="N", help="the same file at every run")
    add_seed(command, "of all randomness")
    group = command.add_argument_group("the picture")
    group.add_argument("--size", type=parse_size, metavar="WxH", help="resample it, or N for the longer side")
    group.add_argument("--background", metavar="COLOUR", help="laid under transparent pixels")
    group.add_argument(
        "--max-pixels", type=count("max-pixels"), metavar="N", help="decode pictures of up to N pixels"
    )
    machine = command.add_argument_group("the machine")
    machine.add_argument("--threads", type=thread_count, metavar="N", help="(default: all cores)")
    output = command.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="FILE", help="the file (default: IMAGE with .cfc)")
    add_overwrite(output, "replace an existing file")
    output.add_argument("--resume", action="store_true", help="continue an interrupted compression")


def _add_decompress(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", type=Path, help="a .cfc file that `coordfit compress` wrote")
    _add_drawing(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", type=Path, help=f"{_MODEL}; or a .cfc file, for html")
    command.add_argument(
        "--to",
        choices=get_args(ExportFormat),
        type=one_of("to", get_args(ExportFormat)),
        help="onnx; torch, a .pt and a .py with its module; npz, arrays and a NumPy program; html, a page that "
        "draws the function (default: by the suffix of --out)",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="the file (default: beside MODEL)")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _add_view(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", type=Path, help=f"{_MODEL}; or a .cfc file")
    command.add_argument("--out", type=Path, metavar="FILE", help="the page (default: a temporary file)")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.add_argument("--no-browser", action="store_true", help="write the page, and do not open it")


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--port",
        type=checked("port", int, lambda n: 0 <= n < 2**16, "a number from 0 to 65535"),
        default=0,
        metavar="N",
        help="of the page (default: any free one)",
    )
    command.add_argument("--no-browser", action="store_true", help="print the page's address alone")
    add_device(command)


def _add_gradcheck(command: argparse.ArgumentParser) -> None:
    add_seed(command, "of weights, pixels and directions")
    add_device(command, threads=False)


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", type=Path, help=f"{_MODEL}; or a .cfc file")


# Positional words, summary, epilog and options of each command.
_COMMANDS: dict[str, tuple[Sequence[str], str, str | None, Callable[[argparse.ArgumentParser], object]]] = {
    "fit": (
        ["[IMAGE ...]"],
        "fit a network to each picture (no IMAGE: the bundled 128x128 one)",
        "Of several pictures, small networks of one shape are trained together. A picture that cannot be "
        "fitted is named, and does not end the others; the exit code is 1 then. --resume skips what is "
        "finished.",
        _add_fit,
    ),
    "compare": (
        ["[IMAGE]"],
        "encodings side by side, trained as one batch of networks",
        f"A network that diverges is named, and shows its last good state; {_ALL_DIVERGED}",
        _add_compare,
    ),
    "sweep": (
        ["[IMAGE ...]"],
        "every combination of options with several values: --sigma 1,2,5",
        f"The row of a network that diverges says so and comes last; {_ALL_DIVERGED}",
        _add_sweep,
    ),
    "inpaint": (
        ["[IMAGE]"],
        "fill the hidden pixels of a picture from the known ones",
        None,
        _add_inpaint,
    ),
    "experiments": (["[NAME ...]"], "the whole study, into one HTML report", None, _add_experiments),
    "render": (["MODEL"], "render a fitted model at any size", None, _add_render),
    "enlarge": (["IMAGE"], "enlarge a photograph, twice by default", None, _add_enlarge),
    "compress": (["IMAGE"], "fit few bits to a picture: a file smaller than JPEG's", None, _add_compress),
    "decompress": (["FILE"], "draw a compressed picture, at any size", None, _add_decompress),
    "export": (["MODEL"], "write a fitted model for ONNX, PyTorch, NumPy or a browser", None, _add_export),
    "view": (["MODEL"], "zoom into a fitted model in the browser", None, _add_view),
    "demo": ([], "drop pictures on a local page, and watch how they are learned", None, _add_demo),
    "gradcheck": ([], "check the hand-written gradients against finite differences", None, _add_gradcheck),
    "info": (["MODEL"], "say what a model file holds", None, _add_info),
    "doctor": ([], "say what this machine offers: versions, processor, BLAS, GPU", None, lambda command: None),
}
COMMANDS = tuple(_COMMANDS)
