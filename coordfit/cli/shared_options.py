"""Add the options that several commands share; those of a fit are made from the fields of `FitConfig`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import RECIPES, STORED, FitConfig
from ..option_checks import kind_of
from .option_types import (
    FUSED,
    PRECISIONS,
    Converter,
    axis_names,
    axis_numbers,
    converter_of,
    count,
    each,
    fused_mode,
    number_or_word,
    one_of,
    precision,
    seed,
    stored,
    thread_count,
    tile_side,
    value_range,
)

IMAGE = "a picture that Pillow can read"
_GROUPS = {
    "network": "the network",
    "training": "training",
    "picture": "the picture",
    "budget": "budgets, whichever is spent first",
    "run": "repeatability",
}


def add_settings(command: argparse.ArgumentParser, several: Sequence[str] = ()) -> None:
    """Add one option for each field of `FitConfig`; those in `several` take a list with commas."""
    command.add_argument(
        "--recipe",
        choices=RECIPES,
        type=one_of("recipe", RECIPES),
        help="a named set of settings, which other options then change",
    )
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="settings from a .toml file, or a run's config.json"
    )
    groups = {name: command.add_argument_group(title) for name, title in _GROUPS.items()}
    for spec in dataclasses.fields(FitConfig):
        _add_field(groups[spec.metadata["group"]], spec, several=spec.name in several)


def _add_field(group: argparse._ArgumentGroup, spec: dataclasses.Field[Any], *, several: bool) -> None:
    """Add the option of a field, which appears in the namespace only if it is given."""
    facts = spec.metadata
    default = "" if spec.default is None else f" (default: {spec.default})"
    options: dict[str, Any] = {}
    if several:
        options = {"type": each(converter_of(spec)), "metavar": "VALUE,..."}
    elif spec.type == "bool":
        options = {"action": argparse.BooleanOptionalAction}
    elif facts["choices"]:
        options = {"choices": facts["choices"], "type": one_of(spec.name, facts["choices"])}
    else:
        kind = kind_of(spec)
        metavar = "COLOUR" if kind == "str | None" else "WxH" if "tuple" in kind else "N"
        options = {"type": number_or_word(spec), "metavar": metavar}
    group.add_argument(
        "--" + spec.name.replace("_", "-"),
        dest=spec.name,
        default=argparse.SUPPRESS,
        help=(facts["help"] + default).replace("%", "%%"),
        **options,
    )


def add_seed(command: argparse.ArgumentParser, summary: str) -> None:
    """Add `--seed` to a command without settings."""
    command.add_argument("--seed", type=seed, default=0, help=summary)


def add_device(command: argparse.ArgumentParser, *, threads: bool = True) -> None:
    """Add the options of the device."""
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
        help="use fused kernels if they can run (auto), always (an error if they cannot), or never",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        type=precision,
        help="of matrix products on a GPU, with --dtype float32: in full, with operands of tf32, or with "
        "activations kept in 16 bits; parameters, sums and the loss stay float32 (default: float32)",
    )


def add_tiles(
    command: argparse.ArgumentParser, summary: str, *, default: str | None = "auto", several: bool = False
) -> argparse._ArgumentGroup:
    """Add the options of tiles; with `several`, lists with commas, and None by default."""

    def reader(read: Converter) -> Converter:
        return each(read) if several else read

    group = command.add_argument_group("a picture as a batch of small networks")
    group.add_argument("--tiles", type=reader(tile_side), default=default, metavar="auto|none|N", help=summary)
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
        help=f"type of the parameters of tiles in files (default: {STORED[0]})",
    )
    return group


def add_array(command: argparse.ArgumentParser) -> None:
    """Add the options of arrays, which are no pictures."""
    group = command.add_argument_group(
        "arrays (.npy, .npz, .wav, .tif of several pages, .exr, or a folder of frames)"
    )
    group.add_argument(
        "--axes",
        type=axis_names,
        metavar="Z,Y,X",
        help="names of the axes in the file's order, c for channels; with them a folder of pictures is a video",
    )
    group.add_argument("--key", metavar="NAME", help="of an array in an .npz that has several")
    group.add_argument(
        "--spacing",
        type=axis_numbers,
        metavar="S,...",
        help="distance of samples, one or one for each axis, in any unit (default: the file's, or 1)",
    )
    group.add_argument(
        "--value-range",
        type=value_range,
        metavar="array|channel|LOW,HIGH",
        help="what is 0 and 1 to networks, and the range of PSNR (default: array, its extremes)",
    )


def add_output(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of the folder for the results."""
    group = command.add_argument_group("output")
    group.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: runs/NNN)")
    add_overwrite(group, "replace existing results in --out")
    return group


def add_overwrite(group: argparse._ActionsContainer, summary: str) -> None:
    """Add `--overwrite` and `--no-progress`."""
    group.add_argument("--overwrite", action="store_true", help=summary)
    group.add_argument("--no-progress", action="store_true", help="no progress on stderr")


def add_animate(group: argparse._ArgumentGroup) -> None:
    """Add `--animate`."""
    group.add_argument(
        "--animate",
        type=Path,
        metavar="FILE",
        help="animate the training: a .webp, .png (APNG), .gif or, with the extra `video`, .mp4",
    )
