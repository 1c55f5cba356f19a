"""Fit a sound, a video and a volume to a quality, and fill a volume of which half is hidden.

    python -m bench.signals                    # some ten minutes, most of them for the filling of 256^3
    python -m bench.signals --cases sound video volume filling-48 --json bench/results/signals.json --show

All signals are made by formulas, so that anyone can make them again. Memory is the peak of a process of its own
and includes the interpreter and the libraries. Errors of a filling are those of hidden voxels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import coordfit
from coordfit.images import bundled_picture
from coordfit.images.resizing import resize_channels

from .command_line import run_main
from .memory import peak_mib
from .recorded_cases import Case, cases_of, study_parser

RATE = 16_000
_SEEN = ("seconds", "psnr", "snr", "steps", "parameters", "psnr_biharmonic", "seconds_biharmonic", "megabytes")


def sound() -> NDArray[np.int16]:
    """Return a second like a voice: harmonics of a gliding pitch under three moving formants, and breath."""
    t = np.arange(RATE) / RATE
    pitch = 120.0 * (1.0 + 0.15 * np.sin(2 * np.pi * 2.5 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = np.zeros_like(t)
    for harmonic in range(1, 40):
        amplitude = 0.02 / harmonic
        for k, (centre, gain) in enumerate(((600, 1.0), (1500, 0.5), (2600, 0.25))):
            moved = centre + 200 * np.sin(2 * np.pi * 1.3 * t + k)
            amplitude = amplitude + gain * np.exp(-(((harmonic * pitch - moved) / 180) ** 2))
        wave += amplitude * np.sin(harmonic * phase)
    wave *= np.clip(np.sin(2 * np.pi * 3 * t), 0.02, 1.0)
    wave += 0.003 * np.random.default_rng(0).normal(size=len(t))
    return np.asarray(wave / (1.05 * np.abs(wave).max()) * 32_767).astype(np.int16)


def video() -> NDArray[np.uint8]:
    """Return 24 frames of 128x128: the bundled photograph, which grows while it moves."""
    picture, frames = bundled_picture(128).pixels, []
    for k in range(24):
        side = 152 + 3 * k
        larger = resize_channels(picture, (side, side), Image.Resampling.BICUBIC, (0, 0, 128, 128))
        frames.append(larger[k : 128 + k, 2 * k : 128 + 2 * k])
    return np.rint(255 * np.clip(np.stack(frames), 0.0, 1.0)).astype(np.uint8)


def volume(side: int) -> NDArray[np.float32]:
    """Return a volume with fine detail: ripples around a point, a chirp under a Gaussian, and a sharp layer."""
    z, y, x = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 3, indexing="ij", sparse=True)
    square = (x - 0.5) ** 2 + (y - 0.45) ** 2 + (z - 0.55) ** 2
    chirp = np.exp(-8 * square) * (1 + 0.5 * np.sin(2 * np.pi * (8 * x + 6 * y * y + 10 * z * x)))
    ripples = 0.3 * np.sin(2 * np.pi * 16 * np.sqrt(square)) * np.exp(-4 * square)
    layer = 0.4 / (1 + np.exp(60 * (np.abs(x - y) - 0.2)))
    return np.asarray(chirp + ripples + layer, np.float32)


def of_sound() -> Case:
    """Fit the sound to 40 dB of signal to noise."""
    values = sound().astype(np.float64)
    above = 20 * np.log10(np.ptp(values) / np.sqrt(np.mean(values**2)))  # of PSNR over SNR
    return _fitted(lambda: coordfit.fit_array(sound(), "t", spacing=1 / RATE, target_psnr=40.0 + float(above)))


def of_video() -> Case:
    """Fit the video to 38 dB."""
    frames = video()
    return _fitted(lambda: coordfit.fit_array(frames, "tyxc", target_psnr=38.0))


def of_volume() -> Case:
    """Fit a volume of 128^3 to 40 dB."""
    values = volume(128)
    return _fitted(lambda: coordfit.fit_array(values, "zyx", target_psnr=40.0))


def of_filling(side: int, *, biharmonic: bool = False) -> Case:
    """Fill a volume of which half is hidden, beside biharmonic equations if they can be solved in minutes."""
    values = volume(side)
    known = np.random.default_rng(0).random(values.shape) < 0.5
    began = time.perf_counter()
    filled = coordfit.fill_array(np.where(known, values, np.nan), "zyx")
    assert filled is not None
    case: Case = {"seconds": time.perf_counter() - began, "psnr": _psnr(filled.values, values, known)}
    if biharmonic:
        from skimage.restoration import inpaint_biharmonic

        began = time.perf_counter()
        smooth = inpaint_biharmonic(np.where(known, values, 0.0), ~known)
        case["seconds_biharmonic"] = time.perf_counter() - began
        case["psnr_biharmonic"] = _psnr(smooth, values, known)
    return case


def _psnr(filled: NDArray[Any], truth: NDArray[Any], known: NDArray[np.bool_]) -> float:
    """Return the PSNR of hidden values in dB, by the range of the known ones, to which they are clipped."""
    low, high = float(truth[known].min()), float(truth[known].max())
    error = (np.clip(filled[~known], low, high) - truth[~known]) / (high - low)
    return float(-10 * np.log10(np.mean(np.square(error, dtype=np.float64))))


def _fitted(fit: Callable[[], coordfit.FitResult]) -> Case:
    began = time.perf_counter()
    metrics = fit().metrics
    names = ("psnr", "snr", "steps", "parameters", "stopped")
    return {"seconds": time.perf_counter() - began} | {name: metrics[name] for name in names}


CASES: dict[str, Callable[[], Case]] = {
    "sound": of_sound,
    "video": of_video,
    "volume": of_volume,
    "filling-24": lambda: of_filling(24, biharmonic=True),
    "filling-32": lambda: of_filling(32, biharmonic=True),
    "filling-48": lambda: of_filling(48, biharmonic=True),
    "filling-128": lambda: of_filling(128),
    "filling-256": lambda: of_filling(256),
}


def measure(name: str) -> Case:
    """Measure a case in a process of its own, after Numba's loops are compiled and cached."""
    told = subprocess.run(
        [sys.executable, "-m", "bench.signals", "--alone", name], capture_output=True, text=True, check=True
    )
    found: Case = json.loads(told.stdout)
    return found


def _measure_alone(name: str) -> None:
    coordfit.fit_array(np.arange(64.0) % 5.0, steps=3, hidden_size=8)
    case = CASES[name]()
    print(json.dumps(case | {"megabytes": peak_mib()}))


def show(cases: list[Case]) -> None:
    """Print a line for each case."""
    for case in cases:
        figures = ", ".join(f"{name} {case[name]:,.2f}" for name in _SEEN if case.get(name) is not None)
        print(f"{case['case']:<12} {figures}")


def main() -> int:
    """Measure, write, print."""
    parser = study_parser("signals", __doc__, (128,))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--alone", choices=CASES)
    args = parser.parse_args()
    if args.alone:
        _measure_alone(args.alone)
        return 0
    show(cases_of(args, [{"case": name} for name in args.cases], lambda key: measure(key["case"])))
    return 0


if __name__ == "__main__":
    run_main("signals", main)
