"""Components from outside: encodings, activations, losses, optimizers, schedules as objects instead of names.

A component is an object of a frozen dataclass. Files hold the name of its class and its fields, never code: the
class comes from the caller (`coordfit.load(path, components=[Gauss])`), or from an installed package that
registers it in an entry-point group (`coordfit.activations`, ...). Only unknown names are looked up there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import numbers
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from importlib import metadata
from typing import Any, ClassVar, Protocol

from .errors import ConfigError

_ACTIVATION = ("coordfit.activations", ("forward", "backward", "saves_input"))
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "encoding": ("coordfit.encodings", ("of", "draw", "num_features", "encoder")),
    "activation": _ACTIVATION,
    "output_activation": _ACTIVATION,
    "loss": ("coordfit.losses", ("value", "gradient")),
    "optimizer": ("coordfit.optimizers", ("update", "state")),
    "schedule": ("coordfit.schedules", ("factor",)),
}
"""For each option that takes components, the entry-point group and what an object must have."""

_HINTS = {
    "encoding": "; coordfit.FourierEncoding and coordfit.Encoding are base classes for it",
    "saves_input": " (True if backward uses the input z, False if it uses the output y)",
    "state": " (the names of its buffers, () without any)",
}
"""What helps, after a component's lack of all members of a kind or of one."""

_CLASS = "component"  # the key of a class's name beside its fields
_KNOWN: ContextVar[tuple[type, ...]] = ContextVar("components", default=())


class Component(Protocol):
    """An object of a frozen dataclass; see docs/how_to/own_components.md for what each kind must have."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Names(tuple[str, ...]):
    """The built-in names of a kind of components; `in` knows those of installed packages too."""

    kind: str

    def __new__(cls, names: Iterable[str], kind: str) -> Names:
        """Return the names of a kind."""
        made = super().__new__(cls, names)
        made.kind = kind
        return made

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and _installed(self.kind, name) is not None)


@contextlib.contextmanager
def known(components: Iterable[type]) -> Iterator[None]:
    """Let files name these classes inside of a `with` block, in this thread."""
    token = _KNOWN.set((*_KNOWN.get(), *components))
    try:
        yield
    finally:
        _KNOWN.reset(token)


def resolved(option: str, value: Any, names: tuple[str, ...]) -> Any:
    """Return a built-in name as it is, and an object for a file's description or an installed name.

    Raises
    ------
    ConfigError
        Nobody says what the name means, or the object lacks something.
    """
    if isinstance(value, Mapping):
        return _checked(option, _from_description(option, value))
    if isinstance(value, str):
        cls = None if tuple.__contains__(names, value) else _installed(option, value)
        return value if cls is None else _checked(option, cls())
    return _checked(option, value)


def _checked(option: str, value: Any) -> Any:
    """Return a component that has what its kind needs; ConfigError names what it lacks."""
    _, members = _KINDS[option]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ConfigError(f"{option} must be a name or an object of a frozen dataclass, not {value!r}")
    if lacking := [name for name in members if not hasattr(value, name)]:
        told = f"{option} {value!r} has no {lacking[0]}; it needs {', '.join(members)}"
        raise ConfigError(told + _HINTS.get("encoding" if option == "encoding" else lacking[0], ""))
    try:
        hash(value)
    except TypeError:
        raise ConfigError(f"{option} {value!r} can be changed; make its class a frozen dataclass") from None
    return value


def classes_by_name(package: str) -> dict[str, type[Any]]:
    """Return the classes that have a `name`, of all modules of a package, by that name."""
    folder, found = importlib.import_module(package).__path__, {}
    for file in pkgutil.iter_modules(folder):
        module = importlib.import_module(f"{package}.{file.name}")
        for value in vars(module).values():
            if getattr(value, "__module__", None) == module.__name__ and "name" in vars(value):
                found[value.name] = value
    return found


def from_settings(cls: type[Any], settings: Mapping[str, Any]) -> Any:
    """Return an object of a built-in class; its fields take the settings of their names, or their defaults."""
    names = [field.name for field in dataclasses.fields(cls) if field.name in settings]
    return cls(**{name: settings[name] for name in names})


def described(value: Any) -> Any:
    """Return what JSON can hold of a component: its class's name and its fields; names stay as they are."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for name, field in fields.items():
        if not isinstance(field, bool | int | float | str):
            raise ConfigError(f"the field {name} of {value!r} cannot be stored; use numbers and words")
    return {_CLASS: type(value).__name__, **fields}


def name_of(value: Any) -> str:
    """Return a component's name for people: a built-in one, or the object's own text."""
    return str(getattr(type(value), "name", None) or (value if isinstance(value, str) else repr(value)))


def _from_description(option: str, description: Mapping[str, Any]) -> Any:
    """The object that a file describes."""
    name, fields = description.get(_CLASS), {k: v for k, v in description.items() if k != _CLASS}
    cls = next((cls for cls in _KNOWN.get() if cls.__name__ == name), None) or _installed(option, str(name))
    if cls is None:
        told = f"its {option} is {name!r}, which coordfit does not have; give the class: components=[{name}]"
        group, _ = _KINDS[option]
        raise ConfigError(f"{told}; or, for the command line, install a package that registers it in {group}")
    expected = {field.name for field in dataclasses.fields(cls)}
    if set(fields) - expected or not all(isinstance(v, numbers.Real | str) for v in fields.values()):
        raise ConfigError(f"its {option} {name!r} has the fields {sorted(fields)}, not {sorted(expected)}")
    return cls(**fields)


def _installed(option: str, name: str) -> Any:
    """The class that an installed package registers by that name, or by the class's own; None without one."""
    group, _ = _KINDS[option]
    for point in metadata.entry_points(group=group):
        if name in (point.name, point.attr):
            return point.load()
    return None
