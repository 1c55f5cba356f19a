"""Type a fit's options, so that editors and type checkers find `optimiser=` and `encoding="gausian"`.

`FitConfig` has their defaults, limits and help; a test compares the two. Functions that pass options on take
`**options: Unpack[FitOptions]`.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from .components import Component
from .network.activations import ActivationName
from .network.losses import LossName

EncodingName = Literal["none", "basic", "positional", "gaussian", "grid", "pyramid"]
InitializerName = Literal["auto", "he", "glorot", "sine"]
OutputStart = Literal["drawn", "mean", "picture"]
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
    "compact",
    "memorise",
]
Auto = Literal["auto"]
DrawingMethod = Literal["auto", "function", "enlarge"]
ExportFormat = Literal["onnx", "torch", "npz", "html"]
FillingMethod = Literal["kriging", "network"]
FusedMode = Literal["auto", "always", "never"]
Precision = Literal["float32", "tf32", "bf16", "fp16"]
Tiles = Literal["auto", "none"] | int


class FitOptions(TypedDict, total=False):
    """The fields of `FitConfig` by name and type."""

    encoding: EncodingName | Component
    num_frequencies: int
    sigma: float | tuple[float, ...] | Auto | None
    grid_levels: int
    grid_features: int
    grid_spacing: float | None
    grid_smoothness: float | None
    pyramid_levels: int
    pyramid_features: int
    pyramid_spacing: float | None
    pyramid_smoothness: float | None
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
    """The device of a fit or a rendering, for `coordfit.get_backend`.

    `device` is `auto`, `cpu`, `gpu` or `gpu:N`; only `auto` may fall back to the CPU. `threads` are worker
    threads on the CPU. `fused` is explained at `backends.Backend`. `precision` is that of matrix products on a
    GPU.
    """

    device: str
    threads: int | None
    fused: FusedMode
    precision: Precision


class TileKeywords(TypedDict, total=False):
    """The tiles of a large picture.

    `tiles` is `auto`, which cuts pictures of more than 256x256 pixels, `none`, or the side of a tile in pixels.
    `every_tile` applies `target_psnr` to each tile instead of the whole picture. `budget_parameters` chooses
    tiles and networks with at most this many parameters in all.
    """

    tiles: Tiles | None
    every_tile: bool
    budget_parameters: int | None


class AllOptions(FitOptions, DeviceOptions, TileKeywords, total=False):
    """All keywords of a fit."""
