"""Write the commands of the parser and the settings of `FitConfig` in place of marks in the reference."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Iterator

from sphinx.application import Sphinx

from coordfit.cli.parser import make_parser
from coordfit.cli.shared_options import _GROUPS as GROUPS
from coordfit.config import FitConfig
from coordfit.option_checks import POSITIVE, kind_of


def _plain(text: str) -> str:
    """Return a help text as Markdown: options are code, characters with a meaning are escaped."""
    text = "".join(
        part if part.startswith("`") else re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", part)
        for part in re.split(r"(`[^`]*`)", text)
    )
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_<>\[\]$|{}])", r"\\\1", part)
        for part in re.split(r"(`[^`]*`)", text)
    )


# -- the command line ----------------------------------------------------------------------------------------


def _signature(action: argparse.Action) -> str:
    """Return how an option is written, with what it takes."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    word = action.metavar or ("NAME" if action.choices else action.dest.upper())
    return ", ".join(name if action.nargs == 0 else f"{name} {word}" for name in action.option_strings)


def _facts(action: argparse.Action) -> tuple[object, ...]:
    return _signature(action), action.help, str(action.choices), action.default


def _option(action: argparse.Action) -> str:
    """Return the Markdown of one option."""
    help_text = _plain((action.help or "").replace("%%", "%"))
    if action.choices and action.metavar is None:
        help_text += f"\n\nOne of {', '.join(f'`{choice}`' for choice in action.choices)}."
    return f":::{{option}} {_signature(action)}\n{help_text}\n:::\n"


def _command(parser: argparse.ArgumentParser, name: str, of_fit: dict[str, argparse.Action]) -> Iterator[str]:
    """Yield the Markdown of one command; options that are those of `fit` are links to them."""
    yield f"### coordfit {name}\n\n{_plain(parser.description or '')}\n"
    yield f"```text\n{parser.format_usage().removeprefix('usage: ').strip()}\n```\n"
    yield f":::{{program}} coordfit {name}\n:::\n"
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        same = [a for a in actions if a.dest in of_fit and _facts(a) == _facts(of_fit[a.dest])]
        if not actions:
            continue
        yield f"**{_plain((group.title or '').capitalize())}**\n"
        yield from (_option(action) for action in actions if action not in same)
        if same:
            links = (f"{{option}}`{a.option_strings[-1]} <coordfit fit {a.option_strings[-1]}>`" for a in same)
            yield f"As of `coordfit fit`: {', '.join(links)}.\n"
    if parser.epilog:
        yield f"{_plain(parser.epilog)}\n"


def commands() -> str:
    """Return the Markdown of all commands."""
    whole = make_parser()
    (table,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    of_fit = {action.dest: action for action in whole.commands["fit"]._actions if action.option_strings}
    lines = ["| command | what it does |\n|---|---|"]
    lines += [
        f"| [`coordfit {a.dest}`](#coordfit-{a.dest}) | {_plain(a.help)} |" for a in table._choices_actions
    ]
    lines += ["\n:::{program} coordfit\n:::\n", *(_option(a) for a in whole._actions if a is not table)]
    for name, parser in whole.commands.items():
        lines += _command(parser, name, {} if name == "fit" else of_fit)
    return "\n".join(lines)


# -- the settings --------------------------------------------------------------------------------------------


def _allowed(spec: dataclasses.Field[object]) -> str:
    """Return the values that a setting may have, in words."""
    facts = spec.metadata
    if facts["choices"]:
        own = ", or an object of your own" if "Component" in str(spec.type) else ""
        return f"One of {', '.join(f'`{choice}`' for choice in facts['choices'])}{own}."
    words = [f"`{word}`" for word in (*facts["names"], facts["word_for_none"]) if word]
    if facts["limits"]:
        low, high = facts["limits"]
        bounds = "above 0" if facts["limits"] == POSITIVE else f"from {low:g}"
        words.insert(0, f"a number {bounds}" + ("" if math.isinf(high) else f" to {high:g}"))
    return f"{' or '.join(words).capitalize()}." if words else ""


def _setting(spec: dataclasses.Field[object]) -> str:
    kind = kind_of(spec).replace("tuple[float, ...]", "tuple of numbers")
    kind = kind.replace("tuple[int, int]", "(width, height)")
    summary = _plain(spec.metadata["help"])
    summary = summary[0].upper() + summary[1:] if summary[1].isalpha() else summary
    text = f"{summary}.\n\n{_allowed(spec)}"
    option = f"--{spec.name.replace('_', '-')}"
    return (
        f":::{{confval}} {spec.name}\n:type: {kind}\n:default: `{spec.default!r}`\n\n{text}\n\n"
        f"{{option}}`{option} <coordfit fit {option}>` on the command line.\n:::\n"
    )


def settings() -> str:
    """Return the Markdown of all settings, by group."""
    fields = dataclasses.fields(FitConfig)
    lines = []
    for group, title in GROUPS.items():
        lines.append(f"## {title[0].upper()}{title[1:]}\n")
        lines += [_setting(spec) for spec in fields if spec.metadata["group"] == group]
    return "\n".join(lines)


def _on_source(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "reference/command_line":
        source[0] = source[0].replace("<!-- commands -->", commands())
    if docname == "reference/configuration":
        source[0] = source[0].replace("<!-- settings -->", settings())


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the event."""
    app.connect("source-read", _on_source)
    return {"parallel_read_safe": True}
