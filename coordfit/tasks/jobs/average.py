"""The mean of K networks: they differ in their seeds alone, are trained as one batch, and become one network.

Between the pixels that training sees, networks of different seeds err differently, and their mean errs less
than each of them: the mean squared error is a + b / K, where b is what seeds disagree about (Krogh and
Vedelsby, Neural Network Ensembles, Cross Validation, and Active Learning, 1994).

The mean, taken before the last activation, is a network itself: K times as wide, with weights of zero between
the K. So it is judged, rendered and saved like every other, at the price of these zeros.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ...backends import Backend
from ...components import name_of
from ...config import FitConfig
from ...encoders.base import State
from ...encoders.registry import encoding_class, encoding_of
from ...errors import ConfigError
from ...images.metrics import shares_within
from ...models.model import Model
from ...network.cost import layout_for
from ...training.job import Job
from ...training.member import HistoryRow, Member
from ...training.result import FitResult, make_result
from ...training.state import Callback, Checkpoint, Progress, ShouldStop, TrainingState
from ...training.trainer import Trainer

MOST_NETWORKS = 16

Array = NDArray[np.floating]


def mean_config(config: FitConfig, count: int) -> FitConfig:
    """Settings of the network that is the mean of `count` networks of these settings."""
    own = encoding_class(config.encoding).settings_of_mean(config, count)
    return config.replace(hidden_size=count * config.hidden_size, **own)


def mean_network(models: Sequence[Model]) -> tuple[State, Array]:
    """Return the encoder's state and the flat parameters (P,) of the mean of K models of one shape."""
    first = models[0]
    config = mean_config(first.config, len(models))
    encoding = encoding_of(config, first.signal.size)
    state = encoding.joined_states([model.encoder.state() for model in models])
    own = encoding.num_features(state) > first.encoder.num_features
    layout = layout_for(config, encoding, state, first.signal.channels)
    flat = np.zeros(layout.size, config.dtype)
    members = np.stack([model.backend.to_numpy(model.mlp.parameters) for model in models])
    for name, arrays in first.mlp.layout.encoder_views(np, members).items():
        layout.encoder_views(np, flat)[name][...] = np.concatenate(arrays, axis=-1)
    groups = encoding_of(first.config, first.signal.size).feature_groups
    layers = list(zip(first.mlp.layout.views(np, members), layout.views(np, flat), strict=True))
    for i, ((W, b), (W_mean, b_mean)) in enumerate(layers):
        last = i == len(layers) - 1
        inputs = ("own" if own else "shared") if i == 0 else "hidden"
        W_mean[...] = _side_by_side(W, inputs, groups, last=last).reshape(W_mean.shape)
        b_mean[...] = b.mean(axis=0) if last else b.reshape(b_mean.shape)
    return state, flat


def _side_by_side(W: Array, inputs: str, groups: int | Sequence[int], *, last: bool) -> Array:
    """One layer's weights (K, n_in, n_out) as those of one network: (K, n_in, K, n_out), zero between the K.

    Shared inputs, and the mean at the end, take the sum and the mean over the axis that they do not have.
    """
    count, n_in, n_out = W.shape
    wide, k = np.zeros((count, n_in, count, n_out), W.dtype), np.arange(count)
    wide[k, :, k, :] = W
    if inputs == "shared":
        wide = wide.sum(axis=0)
    elif inputs == "own":  # such as the cosines of all networks first, then the sines
        parts = np.split(wide, groups, axis=1)
        wide = np.concatenate([part.reshape(-1, count, n_out) for part in parts])
    return wide.mean(axis=-2) if last else wide


class AverageTrainer:
    """Trains K networks as one batch, and makes the one that is their mean.

    Rows of the history are means of the networks' own figures, so that the wide network is judged but once.

    Parameters
    ----------
    job : Job
        Of the first network; the seeds of the others follow its seed.
    count : int
        K.
    """

    def __init__(self, job: Job, backend: Backend, count: int) -> None:
        check_average(count, job.config)
        self.job, self.backend = job, backend
        seeds = [(job.config.seed + k) % 2**63 for k in range(count)]
        jobs = [dataclasses.replace(job, config=job.config.replace(seed=seed)) for seed in seeds]
        with backend.activate():
            self.trainer = Trainer(jobs, backend)
        self.history: list[HistoryRow] = []

    @property
    def model(self) -> Model:
        """The mean of the networks as a callback is told of them, without those that have diverged."""
        return self._mean_of([member.model for member in _good(self.trainer.members)]).model

    def run(
        self,
        callback: Callback | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[FitResult]:
        """Train until a budget is spent or the callback returns True; networks that diverged do not count.

        The mean is the one result. It has no checkpoints.
        """

        def tell(progress: Progress) -> bool:
            if progress.evaluated:
                self.history.append(_mean_row([member.history[-1] for member in _good(progress.members)]))
            row = self.history[-1] if self.history else None
            told = progress.with_row(row, members=(), models_now=self._models_now)
            return callback is not None and bool(callback(told))

        with self.backend.activate():
            results = self.trainer.run(tell, should_stop=should_stop)
            numbers = [k for k, result in enumerate(results) if result.stopped != "diverged"]
            good = [results[k] for k in numbers] or results
            mean = self._mean_of([self.trainer.members[k].model for k in numbers or range(len(results))])
            mean.history = self.history
            state = TrainingState(
                step=good[0].metrics["steps"],
                seconds=good[0].metrics["seconds"],
                parameters=self.backend.to_numpy(mean.model.mlp.parameters),
                optimizer={},
                encoder_state=mean.encoder_state,
                picture_digest=self.job.signal.digest,
                history=list(self.history),
            )
            losses, stopped = np.mean([result.step_losses for result in good], axis=0), good[0].stopped
            result = make_result(mean, state, stopped, self.backend, len(results), losses=losses)
            several = [self.trainer.members[k].model for k in numbers] if len(numbers) > 1 else []
            result = dataclasses.replace(result, networks=several)
            result.metrics.update(_deviation_figures(result, mean.train), averaged=len(good))
        return [result]

    def _models_now(self) -> list[Model]:
        self.trainer.show()
        return [self.model]

    def _mean_of(self, models: Sequence[Model]) -> Member:
        config, known = mean_config(models[0].config, len(models)), self.job.known
        before = mean_network(models)
        return Member(self.backend, self.job.signal, config, known=known, before=before)


def _good(members: Sequence[Member]) -> list[Member]:
    """Those that have the newest row: a member that has diverged gets no more."""
    newest = max(member.history[-1]["step"] or 0 for member in members if member.history)
    return [member for member in members if member.history and member.history[-1]["step"] == newest]


def _mean_row(rows: Sequence[HistoryRow]) -> HistoryRow:
    """Each figure of one evaluation, a mean over the networks; None where a figure has no meaning."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    means: HistoryRow = {
        name: None if None in column else fmean(value for value in column if value is not None)
        for name, column in columns.items()
    }
    return means | {"step": rows[0]["step"]}


def _deviation_figures(result: FitResult, train: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of the deviation, of pixels that training did not see, or of all if it saw all.

    `train` (N,) says what it saw.
    """
    if result.deviation is None:
        return {}
    signal = result.signal
    if signal.coordinates is not None:
        own = result.deviation
        return {"deviation_mean": float(own.mean()), "deviation_largest": float(own.max())}
    unseen = ~train.reshape(signal.samples)
    if signal.unknown is not None:
        unseen &= ~signal.unknown
    counted = result.deviation[unseen] if unseen.any() else result.deviation
    figures = {"deviation_mean": float(counted.mean()), "deviation_largest": float(counted.max())}
    made, truth, deviation = (
        array.reshape(*signal.samples, signal.channels)
        for array in (result.reconstruction, signal.in_own_units, result.deviation)
    )
    return figures | shares_within(made, truth, deviation, unseen)


def check_average(count: int, config: FitConfig) -> None:
    """Raise ConfigError for a number of networks that cannot be averaged."""
    if not 1 <= count <= MOST_NETWORKS:
        raise ConfigError(f"average must be a whole number from 1 to {MOST_NETWORKS}, not {count}")
    if count > 1 and config.optimizer == "gauss-newton":
        raise ConfigError("gauss-newton trains one network at a time; take average 1, or another optimizer")
    encoding = encoding_class(config.encoding)
    if count > 1 and encoding.learns and not encoding.settings_of_mean(config, count):
        raise ConfigError(f"{name_of(config.encoding)} has no settings_of_mean; take average 1, or define it")
    try:
        mean_config(config, count)
    except ConfigError as error:
        raise ConfigError(f"the mean of {count} networks is one {count} times as wide: {error}") from None
