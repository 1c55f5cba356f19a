"""The one place that chooses between a fused body and the generic one, and counts which was taken.

A *primitive* is a method of `Backend` whose generic body is written on `xp` alone and is the reference. A
backend may add a *fused* body with the same signature, and a `supports` predicate that says for which
arguments it can run. Nobody writes `if ...: fast else: super()` by hand; a fallback with a forgotten
`return` can therefore not happen, and a benchmark that asks for `always` can never time a fallback.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

FUSED_MODES = ("auto", "always", "never")

Body = TypeVar("Body", bound=Callable[..., Any])
Supports = Callable[..., str]


class FusedUnavailableError(RuntimeError):
    """`fused="always"` was asked for, and a primitive cannot take its fused path."""


def primitive(body: Body) -> Body:
    """Mark a method's generic body as a primitive that the dispatcher routes."""
    body.__primitive__ = True  # type: ignore[attr-defined]
    return body


def composed(body: Body) -> Body:
    """Mark a primitive whose generic body is made of other primitives, which are routed themselves.

    Without a fused body it is not a fall-back: it is not counted, and `always` lets its parts decide.
    """
    body.__composed__ = True  # type: ignore[attr-defined]
    return primitive(body)


def fused(name: str, supports: Supports | None = None) -> Callable[[Body], Body]:
    """Mark a method as the fused body of the primitive `name`.

    `supports` is called with the primitive's own arguments and returns the reason why the fused body
    cannot take them, or an empty string when it can. None means that it can take all.
    """

    def mark(body: Body) -> Body:
        body.__fused__ = (name, supports)  # type: ignore[attr-defined]
        return body

    return mark


class RouteCounter:
    """Counts calls by (primitive, route), without a lock in the way of the worker threads."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], itertools.count[int]] = {}

    def counting(self, name: str, route: str) -> Callable[[], object]:
        """A function that counts one call: `next` of an `itertools.count` is one step of the interpreter."""
        return self._counts.setdefault((name, route), itertools.count()).__next__

    def totals(self) -> dict[str, dict[str, int]]:
        """Calls so far as `{primitive: {"fused": n, "generic": n}}`, only of what was called."""
        routes: dict[str, dict[str, int]] = {}
        for (name, route), count in sorted(self._counts.items()):
            if calls := int(repr(count)[len("count(") : -1]):  # to look without counting
                routes.setdefault(name, {})[route] = calls
        return routes


def primitives_of(backend_class: type) -> dict[str, Callable[..., Any]]:
    """The generic bodies of a backend class by name, from the class that first defined each."""
    found: dict[str, Callable[..., Any]] = {}
    for cls in reversed(backend_class.__mro__):
        for name, body in vars(cls).items():
            if getattr(body, "__primitive__", False):
                found[name] = body
    return found


def fused_bodies_of(backend_class: type) -> dict[str, tuple[Callable[..., Any], Supports | None]]:
    """The fused bodies of a backend class by the primitive that they stand for."""
    found: dict[str, tuple[Callable[..., Any], Supports | None]] = {}
    for cls in reversed(backend_class.__mro__):
        for body in vars(cls).values():
            if (mark := getattr(body, "__fused__", None)) is not None:
                name, supports = mark
                found[name] = (body, supports)
    unknown = sorted(set(found) - set(primitives_of(backend_class)))
    if unknown:
        raise TypeError(f"{backend_class.__name__} has fused bodies for unknown primitives: {unknown}")
    return found


def install_routes(backend: Any, mode: str) -> RouteCounter:
    """Give `backend` one routed callable for each primitive, and return the counter that they feed."""
    if mode not in FUSED_MODES:
        raise ValueError(f"fused must be one of {', '.join(FUSED_MODES)}, not {mode!r}")
    counter = RouteCounter()
    bodies = fused_bodies_of(type(backend))
    for name, generic in primitives_of(type(backend)).items():
        body, supports = bodies.get(name, (None, None))
        setattr(backend, name, _route(backend, mode, name, generic, body, supports, counter))
    return counter


def _route(
    backend: Any,
    mode: str,
    name: str,
    generic: Callable[..., Any],
    body: Callable[..., Any] | None,
    supports: Supports | None,
    counter: RouteCounter,
) -> Callable[..., Any]:
    if getattr(generic, "__composed__", False):
        call_generic: Callable[..., Any] = functools.partial(generic, backend)
    else:
        call_generic = _generic_route(backend, mode, name, generic, counter)
    if body is None or mode == "never":
        return call_generic

    count_fused = counter.counting(name, "fused")
    fused_body = body

    @functools.wraps(generic)
    def call_fused(*args: Any, **kwargs: Any) -> Any:
        if supports is not None and (reason := supports(backend, *args, **kwargs)):
            if mode == "always" and not getattr(generic, "__composed__", False):
                raise FusedUnavailableError(f"fused=always, but {name} on the {backend.name} backend {reason}")
            return call_generic(*args, **kwargs)
        count_fused()
        return fused_body(backend, *args, **kwargs)

    return call_fused


def _generic_route(
    backend: Any, mode: str, name: str, generic: Callable[..., Any], counter: RouteCounter
) -> Callable[..., Any]:
    count_generic = counter.counting(name, "generic")

    @functools.wraps(generic)
    def call_generic(*args: Any, **kwargs: Any) -> Any:
        if mode == "always":
            raise FusedUnavailableError(
                f"fused=always, but {name} on the {backend.name} backend has no fused body"
            )
        count_generic()
        return generic(backend, *args, **kwargs)

    return call_generic
