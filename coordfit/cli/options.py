"""argparse, made from the fields of `FitConfig`: one place says what an option is called and may be."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._version import __version__
from ..config import RECIPES, STORED, FitConfig, check_setting, did_you_mean, kind_of
from ..errors import ConfigError
from ..experiments import NAMES as EXPERIMENTS
from .option_types import (
    FUSED,
    PRECISIONS,
    UsageError,
    checked,
    converter,
    count,
    each,
    fused_mode,
    list_converter,
    one_of,
    parse_crop,
    parse_size,
    precision,
    stored,
    text_converter,
    thread_count,
    tile_side,
)

COMMANDS = ("fit", "compare", "sweep", "inpaint", "experiments", "render", "gradcheck", "info", "doctor")
_SHELLS = ("bash", "zsh", "tcsh")
_FILE_WORDS = ("IMAGE", "MODEL", "FILE", "FILE.toml", "DIR")  # what stands for a path in the help
_GROUPS = {
    "network": "the network",
    "training": "training",
    "picture": "the picture",
    "budget": "budgets, whichever is spent first",
    "run": "repeatability",
}

_MODEL = "a .safetensors file that coordfit wrote, or the folder of a run"
_WHERE_ALL_DIVERGE = "the exit code is 4 where all do."

# What these are where neither the command line nor the environment says.
_MACHINE: dict[str, Any] = {"device": "auto", "threads": None, "fused": "auto", "precision": "float32"}

# Options that take several values with commas, of the commands that have settings.
_SEVERAL: dict[str, Sequence[str]] = {
    "fit": (),
    "compare": ("encoding", "sigma"),
    "sweep": [spec.name for spec in dataclasses.fields(FitConfig)],
    "inpaint": (),
}


class Options(argparse.Namespace):
    """What was asked for: `command`, the command's own options, and `settings` for fields of `FitConfig`.

    Where a command takes several values of an option, `settings` holds a list of them. `from_environment` names
    the variable of each option that came from one.
    """

    command: str
    settings: dict[str, Any]
    from_environment: dict[str, str]


class _Parser(argparse.ArgumentParser):
    commands: Mapping[str, argparse.ArgumentParser] = {}
    """Of the parser of all commands: theirs, by name."""

    def error(self, message: str) -> NoReturn:
        joint = " " if message.endswith("?") else "; "
        raise UsageError(f"{message}{joint}see `{self.prog} --help`")


class _PrintCompletion(argparse.Action):
    """`--print-completion bash`: what a shell reads to complete words."""

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


def parse(words: Sequence[str]) -> Options | None:
    """Read the words of a command line; None where help or the version was asked for and printed."""
    parser = make_parser()
    command = parser.commands.get(words[0] if words else "", parser)
    _refuse_unknown(words, command, {*_flags(command), *_flags(parser)})
    try:
        options, rest = parser.parse_known_args(words, namespace=Options())
    except SystemExit as end:
        if end.code:
            raise
        return None
    if rest:
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "help":
        return parse([*filter(None, [options.of]), "--help"])
    options.from_environment = {}
    if options.command in _SEVERAL:
        fields = [spec.name for spec in dataclasses.fields(FitConfig)]
        options.settings = {name: vars(options).pop(name) for name in fields if name in vars(options)}
        _take_settings(options, os.environ)
    _take_machine(options, os.environ)
    return options


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All words that begin an option."""
    for action in parser._actions:
        yield from action.option_strings


def _refuse_unknown(words: Sequence[str], command: argparse.ArgumentParser, known: set[str]) -> None:
    """Refuse an option that there is not, before argparse misses what it takes for its value."""
    for word in words:
        flag = word.partition("=")[0]
        if word == "--":
            return
        if word.startswith("--") and " " not in word and flag not in known:
            names = sorted(name[2:] for name in known if name.startswith("--"))
            command.error(f"unrecognized arguments: {flag}{did_you_mean(flag[2:], names, '--')}")


def _take_settings(options: Options, variables: Mapping[str, str]) -> None:
    """Settings from variables `COORDFIT_<OPTION>`, where the command line does not name them."""
    for spec in dataclasses.fields(FitConfig):
        variable = f"COORDFIT_{spec.name.upper()}"
        if spec.name in options.settings or variable not in variables:
            continue
        several = spec.name in _SEVERAL[options.command]
        try:
            value = (list_converter if several else text_converter)(spec)(variables[variable])
            for one in value if several else (value,):
                check_setting(spec, one)
        except (ConfigError, argparse.ArgumentTypeError) as error:
            raise UsageError(f"the environment variable {variable}: {error}") from error
        except ValueError as error:
            wanted = text_converter(spec).__name__
            raise UsageError(
                f"the environment variable {variable} must be a {wanted}, not {variables[variable]!r}"
            ) from error
        options.settings[spec.name] = value
        options.from_environment[spec.name] = variable


def _take_machine(options: Options, variables: Mapping[str, str]) -> None:
    """The device, its threads and what is fused, likewise; their defaults where nothing is said."""
    convert: dict[str, Callable[[str], Any]] = {"device": str, "threads": thread_count}
    convert |= {"fused": fused_mode, "precision": precision}
    for name, default in _MACHINE.items():
        variable = f"COORDFIT_{name.upper()}"
        if name not in vars(options) or vars(options)[name] is not None:
            continue
        value = default
        if variable in variables:
            try:
                value = convert[name](variables[variable])
            except argparse.ArgumentTypeError as error:
                raise UsageError(f"the environment variable {variable}: {error}") from error
            options.from_environment[name] = variable
        setattr(options, name, value)


def make_parser() -> _Parser:
    """The parser of all commands."""
    parser = _Parser(
        prog="coordfit",
        description="Fit a coordinate network to a picture: a hand-written MLP learns (x, y) -> colour. "
        "Without a command, `fit` is meant: `coordfit photo.png`, `coordfit --device gpu`.",
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
        help="print what a shell reads to complete the words of this command",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    parser.commands = commands.choices

    def add(name: str, words: str, summary: str, more: str | None = None) -> argparse.ArgumentParser:
        usage = f"coordfit {name} {words} [options]".replace("  ", " ")
        command = commands.add_parser(
            name, usage=usage, help=summary, description=summary, epilog=more, allow_abbrev=False
        )
        command.add_argument("--json", action="store_true", help="print one strict JSON document")
        command.add_argument("-v", "--verbose", action="store_true", help="say more; tracebacks too")
        command.add_argument("-q", "--quiet", action="store_true", help="print errors alone")
        return command

    _fit_options(add("fit", "[IMAGE]", "fit a network to one picture (no IMAGE: the bundled 128x128 one)"))
    _compare_options(
        add(
            "compare",
            "[IMAGE]",
            "encodings side by side, trained as one batch of networks",
            "A network that diverges is named, and shows its last good state; " + _WHERE_ALL_DIVERGE,
        )
    )
    _sweep_options(
        add(
            "sweep",
            "[IMAGE ...]",
            "every combination of options with several values: --sigma 1,2,5",
            "A network that diverges is told in its row, which comes last; " + _WHERE_ALL_DIVERGE,
        )
    )
    _inpaint_options(add("inpaint", "IMAGE", "learn the known pixels of a picture and fill the hidden ones"))
    _experiments_options(add("experiments", "[NAME ...]", "the whole study, into one HTML report"))
    _render_options(add("render", "MODEL", "render a fitted model at any size"))
    _gradcheck_options(add("gradcheck", "", "check the hand-written gradients against finite differences"))
    info = add("info", "MODEL", "say what a model file holds")
    info.add_argument("model", metavar="MODEL", type=Path, help=_MODEL)
    add("doctor", "", "say what this machine offers: versions, processor, BLAS, GPU")
    about = commands.add_parser("help", help="say what a command does and takes", allow_abbrev=False)
    about.add_argument(
        "of", nargs="?", metavar="COMMAND", type=one_of("the command", COMMANDS), choices=COMMANDS
    )
    return parser


def _device_options(command: argparse.ArgumentParser, *, threads: bool = True) -> None:
    group = command.add_argument_group("the machine")
    group.add_argument(
        "--device",
        help="auto, cpu, gpu, gpu:N, numpy, numba, torch; only auto may fall back to the CPU (default: auto)",
    )
    if threads:
        group.add_argument(
            "--threads",
            type=thread_count,
            metavar="N",
            help="worker threads on the CPU (default: all cores)",
        )
    group.add_argument(
        "--fused",
        choices=FUSED,
        type=fused_mode,
        help="fused bodies of the primitives: where they can run, always (an error where they cannot), never",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        type=precision,
        help="of matrix products on a GPU, where --dtype is float32: in full, with operands of tf32, or with "
        "activations kept in 16 bits; parameters, sums and the loss stay float32 (default: float32)",
    )


def _fit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", nargs="?", metavar="IMAGE", help="a picture that Pillow can read")
    _setting_options(command)
    _device_options(command)
    output = _output_options(command)
    output.add_argument("--resume", action="store_true", help="go on with the run in --out")
    _animate_option(output)
    group = _tile_options(command, _FIT_TILES)
    group.add_argument(
        "--max-pixels",
        type=count("max-pixels"),
        metavar="N",
        help="decode pictures of so many pixels (default: 64 million; Pillow ends at 178 million)",
    )


_FIT_TILES = "a network for each tile of N x N pixels; auto cuts pictures over 256x256 (default: auto)"
_INPAINT_TILES = (
    "a network for each tile of N x N pixels; auto is one network, which fills better (default: auto)"
)
_STUDY_TILES = (
    "a network for each tile of N x N pixels, sigma in cycles per tile; auto cuts what `coordfit fit` would "
    "(default: none)"
)


def _tile_options(
    command: argparse.ArgumentParser, summary: str, *, default: str | None = "auto", several: bool = False
) -> argparse._ArgumentGroup:
    """What is asked of tiles; with `several`, values with commas, and None where nothing is asked."""

    def reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
        return each(read) if several else read

    group = command.add_argument_group("a picture as a batch of small networks")
    group.add_argument(
        "--tiles",
        type=reader(tile_side),
        default=default,
        metavar="auto|none|N",
        help=summary.replace("%", "%%"),
    )
    group.add_argument("--every-tile", action="store_true", help="--target-psnr is for each tile")
    group.add_argument(
        "--budget-parameters",
        type=reader(count("budget")),
        metavar="N",
        help="choose tiles and networks that have N parameters at most, all together",
    )
    group.add_argument(
        "--stored",
        type=reader(stored),
        default=None if several else STORED[0],
        metavar="|".join(STORED),
        help=f"how the parameters of tiles are kept in files (default: {STORED[0]})",
    )
    return group


def _compare_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", nargs="?", metavar="IMAGE", help="a picture that Pillow can read")
    _setting_options(command, several=_SEVERAL["compare"])
    _tile_options(command, _STUDY_TILES, default=None)
    _device_options(command)
    _animate_option(_output_options(command))


def _sweep_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="*", metavar="IMAGE", help="pictures that Pillow can read")
    _setting_options(command, several=_SEVERAL["sweep"])
    _tile_options(command, _STUDY_TILES, default=None, several=True)
    _device_options(command)
    output = _output_options(command)
    output.add_argument("--resume", action="store_true", help="go on with the sweep in --out")
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


def _inpaint_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", nargs="?", metavar="IMAGE", help="a picture that Pillow can read")
    group = command.add_argument_group("what is hidden (default: what is transparent)")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--mask", type=Path, metavar="FILE", help="a picture of the same size: white is known")
    which.add_argument(
        "--missing",
        type=checked("missing", float, lambda f: 0.0 < f < 1.0, "a number between 0 and 1"),
        metavar="FRACTION",
        help="hide this share of the pixels, drawn from --seed",
    )
    which.add_argument("--text", metavar="WORDS", help="hide words written across the picture")
    which.add_argument("--scribble", action="store_true", help="hide lines drawn from --seed")
    which.add_argument("--block", type=parse_crop, metavar="X,Y,W,H", help="hide a rectangle, in pixels")
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
        help="the undamaged picture: scores what fills a --mask or transparency (default: no score)",
    )
    command.add_argument(
        "--average",
        type=count("average"),
        default=1,
        metavar="K",
        help="fill with the mean of K networks of different seeds, trained as one batch (default: 1)",
    )
    _setting_options(command)
    _tile_options(command, _INPAINT_TILES)
    _device_options(command)
    _animate_option(_output_options(command))


def _experiments_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)} (default: all of them)"
    )
    command.add_argument("--quick", action="store_true", help="small and short: figures mean little")
    command.add_argument("--image", metavar="IMAGE", help="a picture of your own instead of the bundled one")
    command.add_argument(
        "--seed",
        type=checked("seed", int, lambda n: n >= 0, "a whole number of 0 or more"),
        default=0,
        help="of all randomness",
    )
    _device_options(command)
    _output_options(command)


def _setting_options(command: argparse.ArgumentParser, several: Sequence[str] = ()) -> None:
    """One option for each field of `FitConfig`; those in `several` take a list with commas."""
    command.add_argument(
        "--recipe",
        choices=RECIPES,
        type=one_of("recipe", RECIPES),
        help="a named set of settings, which other options then change",
    )
    command.add_argument("--config", type=Path, metavar="FILE.toml", help="settings from a file")
    groups = {name: command.add_argument_group(title) for name, title in _GROUPS.items()}
    for spec in dataclasses.fields(FitConfig):
        _add_field(groups[spec.metadata["group"]], spec, several=spec.name in several)


def _output_options(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    output = command.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: runs/NNN)")
    output.add_argument("--overwrite", action="store_true", help="replace what is in --out already")
    output.add_argument("--no-progress", action="store_true", help="no progress on stderr")
    return output


def _animate_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--animate",
        type=Path,
        metavar="FILE",
        help="how the picture comes into focus: a .webp, .png (APNG) or .gif",
    )


def _render_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", type=Path, help=_MODEL)
    size = command.add_mutually_exclusive_group()
    size.add_argument("--size", type=parse_size, metavar="WxH", help="in pixels, or N for the longer side")
    size.add_argument(
        "--scale",
        type=checked("scale", float, lambda s: 0.0 < s < 1e6, "a number above 0 and below 1e6"),
        metavar="S",
        help="times the picture's own size",
    )
    command.add_argument(
        "--crop", type=parse_crop, metavar="X,Y,W,H", help="only this window, in pixels of the rendering"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="where to (default: MODEL-WxH.png)")
    command.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    command.add_argument("--no-progress", action="store_true", help="no progress on stderr")
    _device_options(command)


def _gradcheck_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seed",
        type=checked("seed", int, lambda n: n >= 0, "a whole number of 0 or more"),
        default=0,
        help="of weights, pixels and directions",
    )
    _device_options(command, threads=False)


def _add_field(group: argparse._ArgumentGroup, spec: dataclasses.Field[Any], *, several: bool = False) -> None:
    """One option for one field; it appears in the namespace only where it was given."""
    flag = "--" + spec.name.replace("_", "-")
    facts = spec.metadata
    default = f" (default: {facts['word_for_none'] if spec.default is None else spec.default})"
    text = facts["help"] + (default if spec.default is not None else "")
    common: dict[str, Any] = {"dest": spec.name, "help": text.replace("%", "%%")}
    common["default"] = argparse.SUPPRESS
    if several:
        group.add_argument(flag, type=list_converter(spec), metavar="VALUE,...", **common)
        return
    if spec.type == "bool":
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        return
    if facts["choices"]:
        group.add_argument(flag, choices=facts["choices"], type=one_of(spec.name, facts["choices"]), **common)
        return
    metavar = "COLOUR" if kind_of(spec) == "str | None" else "WxH" if "tuple" in kind_of(spec) else "N"
    group.add_argument(flag, type=converter(spec), metavar=metavar, **common)
