"""Choose between the fused and the generic body of each primitive, and count the choices.

A *primitive* is a method of `Primitives` whose generic body is written on `xp` alone and is the reference. Its
arguments become one record of `calls`. A backend may list *fused* bodies of the same record, each with a
predicate that returns why it cannot run, as text. With `always` a benchmark never times a fallback.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

FUSED_MODES = ("auto", "always", "never")

P = ParamSpec("P")
Record = TypeVar("Record")
Result = TypeVar("Result")
Body = TypeVar("Body", bound=Callable[..., Any])
Supports = Callable[[Any, Any], str]


class FusedUnavailableError(RuntimeError):
    """A primitive cannot run its fused body, although `fused="always"` demands it."""


def primitive(
    record: Callable[P, Record], *, composed: bool = False
) -> Callable[[Callable[[Any, Record], Result]], Callable[Concatenate[Any, P], Result]]:
    """Mark a method of a record as the generic body of a primitive; callers pass the record's fields.

    Parameters
    ----------
    record : class
        One of `calls`.
    composed : bool
        Whether the generic body calls other primitives, which are routed themselves. Such a body is not
        counted as a fallback, and `always` allows it.
    """

    def mark(body: Callable[[Any, Record], Result]) -> Callable[Concatenate[Any, P], Result]:
        @functools.wraps(body)
        def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Result:
            return body(self, record(*args, **kwargs))

        call.__primitive__ = (record, body, composed)  # type: ignore[attr-defined]
        return call

    return mark


def fused(of: Callable[..., Any], supports: Supports | None = None) -> Callable[[Body], Body]:
    """Mark a function `(context, record)` as a fused body of a primitive, e.g. `Primitives.linear`.

    Parameters
    ----------
    of : primitive
    supports : callable, optional
        Takes the same arguments; returns why the body cannot run, or an empty string. None: it always can.
    """

    def mark(body: Body) -> Body:
        body.__fused__ = (of.__name__, supports)  # type: ignore[attr-defined]
        return body

    return mark


def generic(of: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return the generic body of a primitive, a function of an object with `xp` and of the record."""
    body: Callable[[Any, Any], Any] = of.__primitive__[1]  # type: ignore[attr-defined]
    return body


class RouteCounter:
    """Counts calls by (primitive, route), without a lock that worker threads would wait for."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], itertools.count[int]] = {}

    def counting(self, name: str, route: str) -> Callable[[], object]:
        """Return a function that counts one call; `next` of an `itertools.count` is atomic."""
        return self._counts.setdefault((name, route), itertools.count()).__next__

    def totals(self) -> dict[str, dict[str, int]]:
        """Return the calls so far as `{primitive: {"fused": n, "generic": n}}`, without zeros."""
        routes: dict[str, dict[str, int]] = {}
        for (name, route), count in sorted(self._counts.items()):
            if calls := int(repr(count)[len("count(") : -1]):  # reads the count without increasing it
                routes.setdefault(name, {})[route] = calls
        return routes


def primitives_of(backend_class: type) -> dict[str, Callable[..., Any]]:
    """Return the primitives of a backend class by name."""
    found = {name: getattr(backend_class, name) for name in dir(backend_class)}
    return {name: body for name, body in found.items() if hasattr(body, "__primitive__")}


def fused_bodies_of(backend_class: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Return the fused bodies of a backend class by primitive; of two for one, the later."""
    found = {body.__fused__[0]: body for body in backend_class.fused_bodies}
    if unknown := sorted(set(found) - set(primitives_of(backend_class))):
        raise TypeError(f"{backend_class.__name__} has fused bodies for unknown primitives: {unknown}")
    return found


def install_routes(backend: Any, context: Any, mode: str) -> RouteCounter:
    """Replace a backend's primitives by routed callables, and return the counter of their calls.

    The first argument of fused bodies is `context`, that of generic ones the backend.
    """
    if mode not in FUSED_MODES:
        raise ValueError(f"fused must be one of {', '.join(FUSED_MODES)}, not {mode!r}")
    counter = RouteCounter()
    bodies = fused_bodies_of(type(backend)) if mode != "never" else {}
    for name, generic in primitives_of(type(backend)).items():
        setattr(backend, name, _route(backend, context, mode, generic, bodies.get(name), counter))
    return counter


def _route(
    backend: Any, context: Any, mode: str, generic: Any, body: Any, counter: RouteCounter
) -> Callable[..., Any]:
    name = generic.__name__
    _, generic_body, composed = generic.__primitive__
    count_generic, count_fused = counter.counting(name, "generic"), counter.counting(name, "fused")

    def call_generic(given: Any, reason: str = "has no fused body") -> Any:
        if not composed:
            if mode == "always":
                raise FusedUnavailableError(f"fused=always, but {name} on the {backend.name} backend {reason}")
            count_generic()
        return generic_body(backend, given)

    scope = {"_generic": call_generic, "_body": body, "_context": context, "_count": count_fused}
    if body is None:
        return _function_of_fields(generic, ["return _generic(_given)"], scope)
    lines = ["_count()", "return _body(_context, _given)"]
    if (supports := body.__fused__[1]) is not None:
        scope["_supports"] = supports
        lines = ["if reason := _supports(_context, _given): return _generic(_given, reason)", *lines]
    return _function_of_fields(generic, lines, scope)


def _function_of_fields(generic: Any, lines: list[str], scope: dict[str, Any]) -> Callable[..., Any]:
    """Return a function of the fields of a primitive's record, which makes `_given` of them and runs the lines.

    Its text is written out, as `collections.namedtuple` writes its own: to hand on any arguments and keywords
    makes the steps of the smallest networks 4 % longer.
    """
    name, record = generic.__name__, generic.__primitive__[0]
    defaults = record._field_defaults
    parameters = [f"{f}=_defaults[{f!r}]" if f in defaults else f for f in record._fields]
    made = f"_given = _new(_record, ({', '.join(record._fields)},))"
    text = "\n    ".join([f"def {name}({', '.join(parameters)}):", made, *lines])
    scope |= {"_new": tuple.__new__, "_record": record, "_defaults": defaults}
    exec(text, scope)  # only our own names
    return functools.wraps(generic)(scope[name])
