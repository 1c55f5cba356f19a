"""Compute five small trainings by PyTorch: first gradients and the losses of 100 steps, in float64.

    python tests/support/torch_trajectory.py     writes tests/data/torch_oracle.json; needs torch

Nothing here comes from `coordfit` or from a random generator: frequencies, weights, pixels and batches are
sines of their index and remainders, so that the figures are the same on every machine.
"""

import itertools
import json
import math
from pathlib import Path

import numpy as np

FILE = Path(__file__).parents[1] / "data" / "torch_oracle.json"

STEPS, BATCH, SIDE, CHANNELS, NUM_FREQUENCIES, HIDDEN = 100, 32, 16, 3, 8, 32
SIZES = (2 * NUM_FREQUENCIES, HIDDEN, HIDDEN, CHANNELS)
OMEGA, DELTA = 3.0, 0.1
SAMPLE = 5  # elements of each gradient that are written down, evenly spaced from the first to the last

CASES = {
    "adam, mse": {"loss": "mse", "optimizer": "adam", "learning_rate": 1e-2},
    "adam, mae": {"loss": "mae", "optimizer": "adam", "learning_rate": 1e-2},
    "nesterov, huber": {"loss": "huber", "optimizer": "sgd", "learning_rate": 2.0, "momentum": 0.9},
    "sine, adam, mse": {"loss": "mse", "optimizer": "adam", "learning_rate": 3e-3, "activation": "sine"},
    "adam, mse, weights": {"loss": "mse", "optimizer": "adam", "learning_rate": 1e-2, "weighted": True},
}


def wave(count, frequency, phase):
    """Return `count` irregular numbers in [-1, 1]: `sin(frequency k^2 + phase)`."""
    return np.array([math.sin(frequency * k * k + phase) for k in range(count)])


def frequencies():
    """Return B, (m, 2)."""
    return 4.0 * wave(2 * NUM_FREQUENCIES, 0.7, 0.3).reshape(-1, 2)


def initial_weights():
    """Return (W, b) of each layer, shapes (n_in, n_out) and (n_out,)."""
    layers = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(SIZES)):
        W = wave(n_in * n_out, 0.37 + 0.1 * i, 1.0 + i).reshape(n_in, n_out) * (2.0 / n_in) ** 0.5
        layers.append((W, 0.1 * wave(n_out, 0.9, 2.0 + i)))
    return layers


def pixels():
    """Return coordinates (N, 2), target (N, C) and weights (N, 1) of mean 1 with every fifth pixel hidden."""
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    v = (np.stack([columns, rows], axis=-1) + 0.5) / SIDE
    waves = [np.sin(2 * np.pi * (v @ np.array(k)) + c) for c, k in enumerate([(1, 2), (3, -1), (2, 2)])]
    target = 0.5 + 0.4 * np.stack(waves, axis=-1)
    weights = np.where(np.arange(SIDE * SIDE) % 5 == 0, 0.0, 1.0 + 0.5 * wave(SIDE * SIDE, 0.2, 0.0))
    return v, target, (weights / weights.mean())[:, None]


def batch(t):
    """Return pixels (B,) of step t: 77 is odd, so 8 batches hold each of the 256 pixels once."""
    return (77 * (np.arange(BATCH) + t * BATCH) + 13 * (t * BATCH // SIDE**2)) % SIDE**2


def sampled(gradient):
    """Return the norm and a few elements of one gradient, in the order of its memory."""
    flat = np.asarray(gradient).ravel()
    elements = flat[np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(int)]
    return {"norm": float(np.linalg.norm(flat)), "elements": elements.tolist()}


def trajectory(case):
    """Return the first gradient and all losses of one case, by PyTorch's own functions."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)  # these products are too small for more, and sums keep their order

    def tensor(array):
        return torch.tensor(array, dtype=torch.float64)

    coordinates, target, weights = map(tensor, pixels())
    B = tensor(frequencies())
    layers = [[tensor(a).requires_grad_() for a in layer] for layer in initial_weights()]
    parameters = [a for layer in layers for a in layer]
    rate = case["learning_rate"]
    if case["optimizer"] == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate)
    else:
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=case["momentum"], nesterov=True)
    hidden = (lambda z: torch.sin(OMEGA * z)) if case.get("activation") == "sine" else torch.relu
    measure = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": lambda y, t, reduction: functional.huber_loss(y, t, reduction=reduction, delta=DELTA),
    }[case["loss"]]

    losses, first = [], None
    for t in range(STEPS):
        rows = torch.tensor(batch(t))
        phase = 2 * math.pi * coordinates[rows] @ B.T
        x = torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)
        for W, b in layers[:-1]:
            x = hidden(x @ W + b)
        prediction = torch.sigmoid(x @ layers[-1][0] + layers[-1][1])
        value = measure(prediction, target[rows], reduction="none")
        loss = (value * weights[rows]).mean() if case.get("weighted") else value.mean()
        optimizer.zero_grad()
        loss.backward()
        if t == 0:
            first = [sampled(p.grad) for p in parameters]
        optimizer.step()
        losses.append(float(loss.detach()))
    return {"gradient": first, "losses": losses}


def all_trajectories():
    """Return every case by name."""
    return {name: trajectory(case) for name, case in CASES.items()}


def main():
    """Write the file."""
    import torch

    document = {"torch": torch.__version__, "cases": all_trajectories()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
