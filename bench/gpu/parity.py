"""Check that the GPU computes what float64 NumPy does, and a graph what single steps do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from coordfit.backends.cupy_backend.bodies.sixteen_bits import cast

from coordfit.backends import Lattice
from coordfit.network.activations import make_activation
from coordfit.network.losses import make_loss
from coordfit.optimizers.adam import Adam
from coordfit.optimizers.muon import Orthogonalizer
from coordfit.optimizers.sgd import SGD

from .steps import Case, Reference, Row, Rows, fault_of, make_step, on_rung

# Relative Frobenius errors that pass, 3 to 4 times what is expected. A ReLU whose input is within rounding
# of 0 may fall on the other side, and the gradient of a row with it: "with kinks".
LIMITS = {
    "float64": {"forward": 1e-13, "gradient": 1e-12, "with kinks": 1e-12},
    "float32": {"forward": 1e-5, "gradient": 1e-4, "with kinks": 2e-3},
    "tf32": {"forward": 2e-3, "gradient": 5e-3, "with kinks": 6e-2},
    "fp16": {"forward": 3e-3, "gradient": 1e-2, "with kinks": 6e-2},
    "bf16": {"forward": 2e-2, "gradient": 5e-2, "with kinks": 2e-1},
}
Calls = Iterator[tuple[str, str, Callable[[Any, Any], dict[str, Any]]]]
TIERS = ("epilogues", "plain")  # both must be right, whichever is taken


def relative_error(found: Any, expected: Any) -> float:
    """Return the Frobenius norm of the difference over that of what is expected; NaN is an error."""
    expected = np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-300))


def calls(rows: int, width: int, members: int) -> Calls:
    """Yield every product and kernel: its name, its limit, and how it is called with a maker of arrays.

    `new.stored` makes arrays in 16 bits if the backend keeps activations in 16 bits.
    """
    E = () if members == 1 else (members,)
    x, W, b = (*E, rows, width), (*E, width, width), (*E, 1, width)
    P = (*E, 4 * width * width)

    def linear(name: str) -> Callable[[Any, Any], dict[str, Any]]:
        def call(backend: Any, new: Any) -> dict[str, Any]:
            f, kind = make_activation(name, omega=2.0), backend.stored_dtype(str(new(1).dtype))
            y, saved = backend.linear(
                new.stored(*x),
                new(*W) / width**0.5,
                new(*b),
                f,
                out=backend.zeros(x, kind),
                out_saved=backend.zeros(x, kind),
            )
            dz, dW, db = new.stored(*x), new(*W), new(*b)
            y_before = new.copy(y)
            W_above, room = new(*W) / width**0.5, backend.zeros(x, kind)
            dx = backend.linear_backward(
                dz, new.stored(*x), W_above, dW=dW, db=db, previous=(f, saved), out=room
            )
            return {"y": y_before, "dW": dW, "db": db, "dx": dx}

        return call

    for name in ("relu", "identity", "tanh", "sigmoid", "sine"):
        limit = "with kinks" if name == "relu" else "gradient"
        yield f"layer with {name}, forward and back", limit, linear(name)
    yield "matmul", "forward", lambda B, new: {"": B.matmul(new(*x), new(*W))}
    yield (
        "matmul, left transposed",
        "forward",
        lambda B, new: {"": B.matmul(new(*x), new(*x), transpose_a=True)},
    )
    features = "Fourier features"
    yield features, "gradient", lambda B, new: {"": B.fourier_features(new(*x[:-1], 2), new(*E, width, 2))}
    index = np.arange(rows).reshape(*(1 for _ in E), rows) * np.ones((*E, 1), np.int64)
    lattice = Lattice((max(1, rows // 7), 7), (0.01, 0.02), (0.005, 0.01))
    yield (
        "Fourier features of pixels by number",
        "gradient",
        lambda B, new: {
            "": B.pixel_fourier_features(
                B.asarray(index), lattice, new(*E, width, 2), dtype=str(new(1).dtype), out=None
            )
        },
    )
    for loss in ("mse", "mae", "huber"):
        yield f"loss {loss}", "forward", functools.partial(_loss, loss, (*x[:-1], 3), 3 * rows)

    def adam(backend: Any, new: Any) -> dict[str, Any]:
        p, g, m, v = new(*P), new(*P), new(*P), abs(new(*P))
        # What is on its way back is multiplied by the scale, and the optimizer divides.
        backend.optimizer_step(Adam(), p, [g * backend.loss_scale], [m, v], step=7, learning_rate=0.01)
        return {"parameters": p, "m": m, "v": v}

    def sgd(backend: Any, new: Any) -> dict[str, Any]:
        p, g, v = new(*P), new(*P), new(*P)
        scaled = [g * backend.loss_scale]
        backend.optimizer_step(SGD(0.9, True), p, scaled, [v], step=7, learning_rate=0.01)
        return {"parameters": p, "velocity": v}

    def muon(backend: Any, new: Any) -> dict[str, Any]:
        p, g, momenta, out = new(*P), new(*P), new(*P), new(*E, width * width)
        orthogonalize = Orthogonalizer(backend, W, str(p.dtype), 3)
        settings = {"learning_rate": 1.0, "momentum": 0.95, "scale": 0.2 * width**0.5}
        starts = (0, 2 * width * width)
        backend.muon_step(p, [g], momenta, orthogonalize=orthogonalize, out=out, starts=starts, **settings)
        return {"parameters": p, "momenta": momenta}

    yield "Adam", "forward", adam
    yield "SGD", "forward", sgd
    yield "Muon, two layers", "forward", muon


def _loss(name: str, shape: tuple[int, ...], count: int, backend: Any, new: Any) -> dict[str, Any]:
    value, dy = backend.loss_and_gradient(make_loss(name), new(*shape), new(*shape), divisor=count)
    # What is on its way back is multiplied by the scale.
    return {"value": value, "dy": dy / backend.loss_scale if backend.loss_scale != 1.0 else dy}


class Maker:
    """Makes arrays of normal numbers, the same on every backend: float32's, in `dtype`."""

    def __init__(self, backend: Any, dtype: str) -> None:
        self.backend, self.dtype, self._rng = backend, dtype, np.random.default_rng(0)

    def __call__(self, *shape: int) -> Any:
        """Return new numbers."""
        return self.backend.asarray(self._rng.standard_normal(shape).astype(np.float32), self.dtype)

    def stored(self, *shape: int) -> Any:
        """Return numbers as the backend keeps activations."""
        array, kind = self(*shape), self.backend.stored_dtype(self.dtype)
        return array if kind == self.dtype else cast(self.backend.gpu, array, self.backend.zeros(shape, kind))

    def copy(self, array: Any) -> Any:
        """Return the same numbers in other memory."""
        return self.backend.asarray(self.backend.to_numpy(array).copy())


def on_host(backend: Any, array: Any) -> Any:
    """Return an array's numbers on the host: the words of bfloat16 are the upper halves of float32's."""
    host = backend.to_numpy(array)
    return (host.astype(np.uint32) << 16).view(np.float32) if host.dtype == np.uint16 else host


def parity(make: Any, precision: str, rows: int, width: int) -> Rows:
    """Yield a row for each product, kernel and whole step: its errors, its limit, and whether it holds.

    Anything with products is computed with epilogues, and with kernels after plain products.
    """
    dtype = "float64" if precision == "float64" else "float32"
    of_backend = "float32" if precision == "float64" else precision
    backends = {tier: on_rung(make, tier, precision=of_backend) for tier in TIERS}
    for members in (1, 3):
        for name, limit, call in calls(rows, width, members):
            expected = call(Reference(), Maker(Reference(), "float64"))
            for tier in TIERS if name.startswith(("layer", "matmul")) else TIERS[:1]:
                row = {"what": name, "tier": tier, "precision": precision, "members": members}
                work = functools.partial(_found, backends[tier], call, dtype)
                yield _judged(row | {"limit": LIMITS[precision][limit]}, work, expected)
        side = max(8, round(rows**0.5))
        for name in ("relu", "tanh"):
            case = Case(side, width=width, members=members, frequencies=width // 2, activation=name)
            kind = "with kinks" if name == "relu" else "gradient"
            expected = gradient_of(Reference(), case, "float64")
            for tier in TIERS:
                row = {"what": f"gradient of a whole step, {name}", "tier": tier, "precision": precision}
                row |= {"members": members, "limit": LIMITS[precision][kind]}
                yield _judged(row, functools.partial(gradient_of, backends[tier], case, dtype), expected)


def _found(backend: Any, call: Callable[[Any, Any], dict[str, Any]], dtype: str) -> dict[str, Any]:
    with backend.activate():
        return {name: on_host(backend, a) for name, a in call(backend, Maker(backend, dtype)).items()}


def gradient_of(backend: Any, case: Case, dtype: str) -> dict[str, Any]:
    """Return the gradient of a whole step, layer by layer, on the host."""
    with backend.activate():
        step = make_step(backend, case, dtype)
        step(None, 1e-3)
        scale = 1.0 if dtype == "float64" else backend.loss_scale
        found = {"all": backend.to_numpy(step.gradient) / scale}
        for i, layer in enumerate(step.parts[0].mlp.layers):
            for name, array in (("dW", layer.dW), ("db", layer.db)):
                found[f"{name}{i + 1}"] = backend.to_numpy(array) / scale
        return found


def _judged(row: Row, work: Callable[[], dict[str, Any]], expected: dict[str, Any]) -> Row:
    """Return a row with the error of each array, the largest, and whether that is within the limit."""
    try:
        found = work()
    except Exception as fault:
        return row | {"holds": False} | fault_of(fault)
    errors = {name: relative_error(found[name], expected[name]) for name in expected}
    largest = max(errors.values(), key=lambda e: np.inf if np.isnan(e) else e)
    error = errors.get("all", largest)
    each = ", ".join(f"{name} {e:.2g}" for name, e in errors.items()) if len(errors) > 1 else ""
    return row | {"error": error, "holds": bool(error <= row["limit"]), "errors": each}


def graph_equals_eager(
    make: Any, case: Case, precision: str, steps: int, tier: str = "graph"
) -> dict[str, Any]:
    """Compare parameters after some steps, replayed and one by one, which must agree bit by bit."""
    found = []
    for way in (tier, "eager"):
        backend = on_rung(make, way, precision=precision)
        if way == "eager":
            # The same state on the device, and the same launches, without a graph.
            backend.gpu.why_not_recorded = ""
            backend.capture = lambda step, warm_up=2: step
        with backend.activate():
            step = make_step(backend, case)
            step.advance(0, steps)
            found.append((backend.to_numpy(step.mlp.parameters), backend.gpu.not_recorded))
    (replayed, reason), (eager, _) = found
    return {
        "case": str(case),
        "tier": tier,
        "precision": precision,
        "steps": steps,
        "holds": bool(np.array_equal(replayed, eager) and np.isfinite(eager).all() and not reason),
        "largest_difference": float(np.abs(replayed - eager).max()),
        "not_recorded": reason,
    }
