"""The types of a fit's options: `optimiser=` and `encoding="gausian"` are errors for editors and type checkers.

`FitConfig` has the defaults, limits and help of the same fields; a test holds the two together. A function that
hands its options on takes them as `**options: Unpack[FitOptions]`.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from .components import Component
from .network.activations import ActivationName
from .network.losses import LossName

EncodingName = Literal["none", "basic", "positional", "gaussian", "grid"]
InitializerName = Literal["auto", "he", "glorot", "sine"]
OutputStart = Literal["drawn", "mean"]
OptimizerName = Literal["adam", "sgd", "muon", "gauss-newton"]
ScheduleName = Literal["constant", "cosine", "linear", "exponential"]
PolishName = Literal["none", "ridge"]
TrainOn = Literal["all", "every-second"]
DtypeName = Literal["float32", "float64"]
RecipeName = Literal[
    "default",
    "paper",
    "seed-sgd",
    "seed-adam",
    "seed-sgd-32",
    "seed-adam-32",
    "fast",
    "sharp",
    "tiny",
    "interpolate",
]
Auto = Literal["auto"]
FusedMode = Literal["auto", "always", "never"]
Precision = Literal["float32", "tf32", "bf16", "fp16"]
Tiles = Literal["auto", "none"] | int


class FitOptions(TypedDict, total=False):
    """The fields of `FitConfig` by name and type."""

    encoding: EncodingName | Component
    num_frequencies: int
    sigma: float | Auto | None
    grid_levels: int
    grid_features: int
    grid_spacing: float | None
    grid_smoothness: float | None
    depth: int
    hidden_size: int
    activation: ActivationName | Component
    omega: float
    output_activation: ActivationName | Component
    initializer: InitializerName
    output_start: OutputStart
    loss: LossName | Component
    delta: float
    optimizer: OptimizerName | Component
    learning_rate: float
    momentum: float
    muon_momentum: float
    nesterov: bool
    beta1: float
    beta2: float
    epsilon: float
    schedule: ScheduleName | Component
    warmup_steps: int
    final_factor: float
    batch_size: int | None
    polish: PolishName
    train_on: TrainOn
    size: int | tuple[int, int] | None
    background: str | None
    steps: int | None
    epochs: float | None
    seconds: float | None
    target_psnr: float | None
    evaluate_every: int | None
    seed: int
    dtype: DtypeName


class DeviceOptions(TypedDict, total=False):
    """Where a fit or a rendering runs: what `coordfit.get_backend` takes.

    `device` is `auto`, `cpu`, `gpu` or `gpu:N`, and `auto` alone may fall back to the CPU. `threads` are worker
    threads on the CPU; see `backends.Backend` for `fused`. `precision` is that of matrix products on a GPU.
    """

    device: str
    threads: int | None
    fused: FusedMode
    precision: Precision


class TileKeywords(TypedDict, total=False):
    """How a large picture is cut into tiles.

    `tiles` is `auto`, `none`, or the side of a tile in pixels. `every_tile` says that `target_psnr` is for each
    tile, and not for the picture alone. `budget_parameters` chooses tiles and networks that have at most this
    many parameters, all together.
    """

    tiles: Tiles | None
    every_tile: bool
    budget_parameters: int | None


class AllOptions(FitOptions, DeviceOptions, TileKeywords, total=False):
    """All keywords of a fit: settings of the network, where it runs, and tiles."""
