"""The members of a run: each with its picture, settings, random draws, model, evaluators and history.

A run trains one member, or K of one shape together (`trainer.Trainer`), and has their step and optimizer state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Array, Backend
from ..components import name_of
from ..config import FitConfig
from ..encoders.base import Encoding, State
from ..encoders.registry import encoding_class, encoding_of
from ..errors import ConfigError
from ..models.model import Model
from ..network.activations import make_activation
from ..network.cost import layout_for
from ..network.initializers import Drawn, bias_for_mean, start_linear
from ..network.losses import make_loss
from ..network.mlp import initial_parameters
from ..network.parameters import ParameterLayout
from ..network.random_streams import RandomStreams
from ..optimizers.schedules import learning_rate
from ..pixels.batch_order import BatchOrder
from ..pixels.masks import training_mask
from ..pixels.rows import GridRows
from ..pixels.step_inputs import StepInputs
from ..pixels.training_pixels import TrainingPixels
from ..pixels.weights import checked_mask, checked_weights, scaled_weights
from ..signals.facts import SignalFacts
from ..signals.signal import Signal
from .budget import Budget
from .evaluation import SAMPLE_PIXELS, Evaluation, Evaluator

# The most evaluations of a schedule by default, and how many if those would take more than a tenth of the time.
# The evaluation of a pixel costs a third of a training step on it.
_EVALUATIONS = 24
_FEW_EVALUATIONS = 12
_EVALUATION_COST = 10 / 3

HistoryRow = dict[str, float | int | None]


class Member:
    """A picture, settings, and the network that learns it; for `known` and `weights` see `Job`.

    With `before`, encoder state and flat parameters are those of an earlier run, and not random.
    """

    def __init__(
        self,
        backend: Backend,
        signal: Signal,
        config: FitConfig,
        *,
        known: NDArray[np.bool_] | None = None,
        weights: NDArray[np.floating] | None = None,
        before: tuple[State, NDArray[np.floating]] | None = None,
    ) -> None:
        _check_settings(config)
        self.signal, self.config, self.known = signal, config, known
        self.target = signal.pixels.reshape(-1, signal.channels)
        streams = RandomStreams(config.seed)
        mask = training_mask(config.train_on, signal.samples) if known is None else checked_mask(known, signal)
        self.train = mask.reshape(-1)
        self.weights: NDArray[np.floating] | None = None
        if weights is not None:
            self.weights = scaled_weights(checked_weights(weights, signal), self.train)
        self.encoder_state, parameters = before or self._draw(streams)
        self.model = Model(backend, config, SignalFacts.of(signal), self.encoder_state, parameters)
        self.num_training_pixels = num_pixels = int(self.train.sum())
        self.batch_rows = batch = min(config.batch_size or num_pixels, num_pixels)
        self.budget = Budget(config, num_pixels)
        self.steps = self.budget.steps
        self.order = None if batch == num_pixels else BatchOrder(num_pixels, batch, streams.order_seed)
        self.loss = make_loss(config.loss, **vars(config))
        unknown = None if signal.unknown is None else signal.unknown.reshape(-1)
        compared: Any = {"points": signal.coordinates, "unknown": unknown}
        self.evaluate, self.evaluate_all = (
            Evaluator(self.model, self.loss, self.target, self.train, sample=sample, **compared)
            for sample in (SAMPLE_PIXELS, None)
        )
        self.history: list[HistoryRow] = []

    def use_features(self, table: Array) -> None:
        """Let evaluations use training's features (H W, F) of all pixels, if they are not padded."""
        if table.shape[-1] == self.model.encoder.num_features:
            self.evaluate.features = self.evaluate_all.features = table

    def _draw(self, streams: RandomStreams) -> tuple[State, NDArray[np.float64]]:
        """Draw the encoder's state and the flat parameters of network and encoder."""
        config, channels = self.config, self.signal.channels
        encoding = encoding_of(config, self.signal.shape)
        state = encoding.draw(streams.encoding, config.dtype)
        layout = layout_for(config, encoding, state, channels)
        network = initial_parameters(
            layout.layer_sizes,
            config.resolved_initializer,
            omega=config.resolved_omega,
            rng=streams.weights,
            encoded=not encoding.gives_coordinates,
            output_bias=self._output_bias(),
        )
        if config.output_start == "picture":
            self._start_linear(encoding, list(ParameterLayout(layout.layer_sizes).views(np, network)))
        if self.signal.coordinates is not None:
            return state, layout.with_encoder(network, encoding.draw_parameters(streams.encoding))
        known = self.train.reshape(self.signal.samples)
        first = encoding.first_parameters(streams.encoding, self.signal.pixels, known)
        return state, layout.with_encoder(network, first)

    def _start_linear(self, encoding: Encoding, layers: Sequence[Drawn]) -> None:
        """Let a network start at the picture of the encoding's first values; ConfigError if it cannot."""
        config, channels = self.config, self.signal.channels
        S = encoding.colour_weights(channels)
        if S is None:
            raise ConfigError(f"output_start picture is for encoding pyramid, not {name_of(config.encoding)}")
        if (config.activation, config.output_activation) != ("relu", "identity"):
            raise ConfigError("output_start picture needs activation relu and output_activation identity")
        if config.depth > 1 and config.hidden_size < 2 * channels:
            raise ConfigError(f"output_start picture needs hidden_size {2 * channels} or more")
        start_linear(layers, S, self.target[self.train].mean(axis=0, dtype=np.float64))

    def _output_bias(self) -> NDArray[np.float64] | None:
        """Return the bias for the mean colour of the training pixels; None unless the settings ask for it."""
        config = self.config
        if config.output_start != "mean":
            return None
        mean = self.target[self.train].mean(axis=0, dtype=np.float64)
        return bias_for_mean(make_activation(config.output_activation, **vars(config)), mean)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the step after `step` steps."""
        start, length = self.budget.schedule_of(step)
        return learning_rate(self.config, step - start, length)

    def next_evaluation(self, step: int) -> int:
        """Return the step of the next evaluation after `step` steps."""
        start, length = self.budget.schedule_of(step)
        end, every = start + length, self.config.evaluate_every
        if every is not None:
            start = 0
        else:
            every = max(1, math.ceil(length / _EVALUATIONS))
            cheap = math.ceil(_EVALUATION_COST * min(len(self.train), SAMPLE_PIXELS) / self.batch_rows)
            if self.config.target_psnr is None:  # a curve needs points
                cheap = min(cheap, math.ceil(length / _FEW_EVALUATIONS))
            every = max(every, cheap)
        return min(start + ((step - start) // every + 1) * every, end)

    def is_evaluated_at(self, step: int) -> bool:
        """Whether a run evaluates after `step` steps."""
        return step == 0 or self.next_evaluation(step - 1) == step

    def add_history_row(
        self, figures: Evaluation, step: int, seconds: float, learning_rate: float | None = None
    ) -> HistoryRow:
        """Append an evaluation to the history, and return its row.

        `learning_rate` is that of the next step, if the schedule may have been estimated again since.
        """
        row: HistoryRow = {
            "step": step,
            "seconds": round(seconds, 6),
            "loss": figures.loss,
            "psnr_train": figures.psnr_train,
            "psnr_held_out": figures.psnr_held_out,
            "psnr": figures.psnr,
            "learning_rate": self.learning_rate(step) if learning_rate is None else learning_rate,
        }
        self.history.append(row)
        return row

    def is_regular_row(self, row: HistoryRow, last_step: int) -> bool:
        """Whether an uninterrupted run would have evaluated at this row's step."""
        step = int(row["step"] or 0)
        return step <= last_step and (self.budget.time_limited or self.is_evaluated_at(step))


def step_inputs_of(members: Sequence[Member], rates: Callable[[int], Sequence[float]]) -> StepInputs:
    """Return batches and learning rates, with orders and pixels that all members share or one for each."""
    orders = [member.order for member in members if member.order is not None]
    if len(members) == 1:  # `training_pixels_of` has its pixels only
        return StepInputs(rates, orders)
    same_mask = all(np.array_equal(member.train, members[0].train) for member in members[1:])
    shared = same_mask and len({order.seed for order in orders}) <= 1
    count = 1 if shared else len(members)
    sees_all = all(bool(member.train.all()) for member in members)
    numbers = None if sees_all else [np.flatnonzero(member.train) for member in members[:count]]
    return StepInputs(rates, orders[:count], numbers)


def training_pixels_of(members: Sequence[Member]) -> TrainingPixels:
    """Return the training pixels of one member; for several all pixels, chosen by number."""
    first = members[0]
    backend, dtype = first.model.backend, first.config.dtype
    if len(members) > 1:
        same = all(member.signal.pixels is first.signal.pixels for member in members)
        target = first.target if same else np.stack([member.target for member in members])
        own = [member.weights for member in members if member.weights is not None]
        weights = backend.asarray(np.stack(own), dtype) if own else None
        coordinates = _coordinates_of(first, None)
        return TrainingPixels(backend, coordinates, backend.asarray(target, dtype), weights)
    sees_all = bool(first.train.all())
    seen = first.target if sees_all else first.target[first.train]  # without a copy of all pixels
    coordinates = _coordinates_of(first, None if sees_all else np.flatnonzero(first.train))
    weights = None if first.weights is None else backend.asarray(first.weights[first.train], dtype)
    return TrainingPixels(backend, coordinates, backend.asarray(seen, dtype), weights)


def _coordinates_of(member: Member, chosen: NDArray[np.int64] | None) -> Array | GridRows:
    """Return the coordinates of the samples that are chosen, or of all, on the device."""
    backend, dtype, signal = member.model.backend, member.config.dtype, member.signal
    every_second = member.config.train_on == "every-second" and member.known is None
    if signal.coordinates is not None:
        return backend.asarray(signal.coordinates if chosen is None else signal.coordinates_of(chosen), dtype)
    if chosen is None or every_second:
        return GridRows(backend, signal.grid, 1 if chosen is None else 2, dtype)
    return backend.asarray(signal.coordinates_of(chosen), dtype)


def _check_settings(config: FitConfig) -> None:
    if config.optimizer == "gauss-newton" and encoding_class(config.encoding).learns:
        raise ConfigError(
            f"gauss-newton trains no encoding; take another optimizer for encoding {name_of(config.encoding)}"
        )
    for setting, value in (("optimizer", "gauss-newton"), ("polish", "ridge")):
        if getattr(config, setting) == value and config.loss != "mse":
            raise ConfigError(
                f"{setting} {value} minimises squared errors alone; take it with loss mse, not {config.loss}"
            )
