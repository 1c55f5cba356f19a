"""Read a command line and the environment into options."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import FitConfig
from ..errors import ConfigError
from ..option_checks import check_setting, did_you_mean
from .option_types import Converter, UsageError, converter_of, each, fused_mode, precision, thread_count
from .parser import LISTED, make_parser

_FIELDS = dataclasses.fields(FitConfig)
# Converters and defaults of the device's options.
_DEVICE: dict[str, tuple[Converter, Any]] = {
    "device": (str, "auto"),
    "threads": (thread_count, None),
    "fused": (fused_mode, "auto"),
    "precision": (precision, "float32"),
}


class Options(argparse.Namespace):
    """Options of one command: `command`, its own ones, and `settings` for fields of `FitConfig`.

    `settings` holds a list for each option in `LISTED`. `from_environment` names the variable of each option
    that came from one. `device_is_chosen` says whether the command line or a variable names the device.
    """

    command: str
    settings: dict[str, Any]
    from_environment: dict[str, str]
    device_is_chosen: bool


def parse(words: Sequence[str]) -> Options | None:
    """Parse a command line; return None after printing help or the version."""
    parser = make_parser()
    command = parser.commands.get(words[0] if words else "", parser)
    flags = {flag for known in (command, parser) for action in known._actions for flag in action.option_strings}
    _refuse_unknown(words, command, flags)
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
    if options.command in LISTED:
        names = [spec.name for spec in _FIELDS]
        options.settings = {name: vars(options).pop(name) for name in names if name in vars(options)}
        _add_settings_from(os.environ, options)
    on_command_line = getattr(options, "device", None) is not None
    _add_device_from(os.environ, options)
    options.device_is_chosen = on_command_line or "device" in options.from_environment
    return options


def _refuse_unknown(words: Sequence[str], command: argparse.ArgumentParser, flags: set[str]) -> None:
    """Refuse an unknown option before argparse complains about its value."""
    for word in words:
        flag = word.partition("=")[0]
        if word == "--":
            return
        if word.startswith("--") and " " not in word and flag not in flags:
            names = sorted(name[2:] for name in flags if name.startswith("--"))
            command.error(f"unrecognized arguments: {flag}{did_you_mean(flag[2:], names, '--')}")


def _add_settings_from(variables: Mapping[str, str], options: Options) -> None:
    """Add settings from variables `COORDFIT_<OPTION>`, unless the command line has them."""
    for spec in _FIELDS:
        variable = f"COORDFIT_{spec.name.upper()}"
        if spec.name in options.settings or variable not in variables:
            continue
        convert, several = converter_of(spec), spec.name in LISTED[options.command]
        try:
            value = (each(convert) if several else convert)(variables[variable])
            for one in value if several else (value,):
                check_setting(spec, one)
        except (ConfigError, argparse.ArgumentTypeError) as error:
            raise UsageError(f"the environment variable {variable}: {error}") from error
        except ValueError as error:
            wanted = f"a {convert.__name__}, not {variables[variable]!r}"
            raise UsageError(f"the environment variable {variable} must be {wanted}") from error
        options.settings[spec.name] = value
        options.from_environment[spec.name] = variable


def _add_device_from(variables: Mapping[str, str], options: Options) -> None:
    """Add options of the device from variables or defaults, unless the command line has them."""
    for name, (convert, default) in _DEVICE.items():
        variable = f"COORDFIT_{name.upper()}"
        if name not in vars(options) or vars(options)[name] is not None:
            continue
        value = default
        if variable in variables:
            try:
                value = convert(variables[variable])
            except argparse.ArgumentTypeError as error:
                raise UsageError(f"the environment variable {variable}: {error}") from error
            options.from_environment[name] = variable
        setattr(options, name, value)
