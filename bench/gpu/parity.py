"""Whether the GPU computes what float64 NumPy does, and a graph what single steps do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from coordfit.activations import make_activation
from coordfit.losses import make_loss

from .steps import Case, Reference, make_step, on_rung

# Relative Frobenius errors that are let pass, 3 to 4 times what is expected. In a whole step a ReLU
# whose input is within rounding of 0 may fall on its other side, and the gradient of a row goes with it.
LIMITS = {
    "float64": {"forward": 1e-13, "gradient": 1e-12, "with kinks": 1e-12},
    "float32": {"forward": 1e-5, "gradient": 1e-4, "with kinks": 2e-3},
    "tf32": {"forward": 2e-3, "gradient": 5e-3, "with kinks": 2e-2},
}
Calls = Iterator[tuple[str, str, Callable[[Any, Any], list[Any]]]]


def relative_error(found: Any, expected: Any) -> float:
    """Frobenius norm of the difference over that of what is expected; NaN is an error."""
    expected = np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-300))


def calls(rows: int, width: int, members: int) -> Calls:
    """Every product and kernel: its name, which limit it has, and how it is called with a maker of arrays."""
    E = () if members == 1 else (members,)
    x, W, b = (*E, rows, width), (*E, width, width), (*E, 1, width)
    P = (*E, 4 * width * width)

    def linear(name: str) -> Callable[[Any, Any], list[Any]]:
        def call(backend: Any, new: Any) -> list[Any]:
            out = backend.zeros(x, str(new(1).dtype))
            y, kept = backend.linear(
                new(*x), new(*W) / width**0.5, new(*b), make_activation(name, omega=2.0), out=out
            )
            dz, dW, db = new(*x), new(*W), new(*b)
            arrays = {"dW": dW, "db": db, "below": (make_activation(name, omega=2.0), kept)}
            y_before = backend.asarray(backend.to_numpy(y))
            W_above, room = new(*W) / width**0.5, backend.zeros(x, str(dz.dtype))
            dx = backend.linear_backward(dz, new(*x), W_above, **arrays, out=room)
            return [y_before, dW, db, dx]

        return call

    for name in ("relu", "identity", "tanh", "sigmoid", "sine"):
        yield f"layer with {name}, forward and back", "gradient", linear(name)
    yield "matmul", "forward", lambda B, new: [B.matmul(new(*x), new(*W))]
    yield "matmul, left transposed", "forward", lambda B, new: [B.matmul(new(*x), new(*x), transpose_a=True)]
    features = "Fourier features"
    yield features, "gradient", lambda B, new: [B.fourier_features(new(*x[:-1], 2), new(*E, width, 2))]
    for loss in ("mse", "mae", "huber"):
        yield (
            f"loss {loss}",
            "forward",
            lambda B, new, loss=loss: [
                *B.loss_and_gradient(make_loss(loss), new(*x[:-1], 3), new(*x[:-1], 3), count=3 * rows)
            ],
        )

    def adam(backend: Any, new: Any) -> list[Any]:
        p, g, m, v = new(*P), new(*P), new(*P), abs(new(*P))
        rates = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        backend.adam_step(p, [g], m, v, step=7, **rates)
        return [p, m, v]

    def sgd(backend: Any, new: Any) -> list[Any]:
        p, g, v = new(*P), new(*P), new(*P)
        backend.sgd_step(p, [g], v, learning_rate=0.01, momentum=0.9, nesterov=True)
        return [p, v]

    yield "Adam", "forward", adam
    yield "SGD", "forward", sgd


def maker(backend: Any, dtype: str) -> Any:
    """A maker of arrays of normal numbers, the same on every backend: float32's, in `dtype`."""
    rng = np.random.default_rng(0)
    return lambda *shape: backend.asarray(rng.standard_normal(shape).astype(np.float32), dtype)


def parity(backend: Any, precision: str, rows: int, width: int) -> list[dict[str, Any]]:
    """A row for each product, kernel and whole step: its error, its limit, and whether it holds."""
    dtype = "float64" if precision == "float64" else "float32"
    reference, table = Reference(), []
    for members in (1, 3):
        for name, limit, call in calls(rows, width, members):
            row = {"what": name, "precision": precision, "members": members, "limit": LIMITS[precision][limit]}
            try:
                found = [backend.to_numpy(a) for a in call(backend, maker(backend, dtype))]
                expected = call(reference, maker(reference, "float64"))
                row["error"] = max(relative_error(f, e) for f, e in zip(found, expected, strict=True))
                row["holds"] = bool(row["error"] <= row["limit"])
            except Exception as error:
                row |= {"holds": False, "fault": f"{type(error).__name__}: {error}"}
            table.append(row)
        side = max(8, round(rows**0.5))
        for name in ("relu", "tanh"):
            case = Case(side, width=width, members=members, frequencies=width // 2, activation=name)
            table.append(_whole_step(backend, case, precision, dtype))
    return table


def _whole_step(backend: Any, case: Case, precision: str, dtype: str) -> dict[str, Any]:
    row: dict[str, Any] = {"what": f"gradient of a whole step, {case.activation}", "precision": precision}
    limit = "with kinks" if case.activation == "relu" else "gradient"
    row |= {"members": case.members, "limit": LIMITS[precision][limit]}
    try:
        step, expected = make_step(backend, case, dtype), make_step(Reference(), case, "float64")
        step(None, 1e-3)
        expected(None, 1e-3)
        row["error"] = relative_error(backend.to_numpy(step.gradient), expected.gradient)
        row["holds"] = bool(row["error"] <= row["limit"])
    except Exception as error:
        row |= {"holds": False, "fault": f"{type(error).__name__}: {error}"}
    return row


def graph_equals_eager(make: Any, case: Case, steps: int) -> dict[str, Any]:
    """Parameters after some steps, replayed and one by one, which must agree bit by bit."""
    found = []
    for rung in ("graph", "eager"):
        backend = on_rung(make, rung)
        if rung == "eager":
            # The same state on the device, and the same launches, without a graph.
            backend.why_not_recorded = lambda: ""
            backend.capture = lambda step, warm_up=2: step
        with backend.activate():
            step = make_step(backend, case)
            step.advance(0, steps)
            found.append((backend.to_numpy(step.mlp.parameters), backend.not_recorded))
    (replayed, reason), (eager, _) = found
    return {
        "case": str(case),
        "steps": steps,
        "equal": bool(np.array_equal(replayed, eager)),
        "finite": bool(np.isfinite(eager).all()),
        "not_recorded": reason,
    }
