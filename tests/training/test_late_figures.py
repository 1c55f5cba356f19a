"""A run whose figures arrive late, as from a GPU, ends as one whose figures arrive at once."""

import numpy as np
import pytest
from coordfit.backends.host_readback import HostReadback
from coordfit.backends.numpy_backend.backend import NumpyBackend

from coordfit.config import make_config
from coordfit.images import bundled_picture
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

SMALL = {"hidden_size": 16, "depth": 3, "num_frequencies": 8, "batch_size": 64, "dtype": "float64"}
SMALL |= {"steps": 60, "evaluate_every": 5, "schedule": "constant", "learning_rate": 1e-2}


class LateReadback(HostReadback):
    """Hands out copies two calls of `send` late, unless it is waited for."""

    def arrived(self, wait=False):
        ready = len(self._arrived) if wait else max(0, len(self._arrived) - 2)
        found, self._arrived = self._arrived[:ready], self._arrived[ready:]
        return found


class LateBackend(NumpyBackend):
    def readback(self, shape, dtype, in_flight):
        return LateReadback(self.to_numpy)


def run(backend, members, **options):
    """The results of a run, what its callback saw of the first network, and the checkpoint at its end."""
    cat, seen, saved = bundled_picture(32), [], []
    jobs = [Job(cat, make_config(SMALL, {"seed": seed}, options)) for seed in (1, 0, 2)[:members]]
    trainer = Trainer(jobs, backend)

    def look(progress):
        if progress.evaluated:
            seen.append((progress.step, progress.psnr, progress.model.render().tobytes()))

    results = trainer.run(look, checkpoint=saved.append if members == 1 else None)
    return results, seen, saved


TARGET = 19.0
ENDS = {
    "target_psnr": {"target_psnr": TARGET, "train_on": "every-second"},
    "diverged": {"optimizer": "sgd", "learning_rate": 1e5, "output_activation": "identity", "warmup_steps": 60},
    "steps": {},
}


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("stopped", ENDS)
def test_a_run_ends_as_if_it_had_waited_for_its_figures(stopped, members):
    options = ENDS[stopped]
    (late, seen_late, saved_late), (own, seen, saved) = (
        run(backend, members, **options) for backend in (LateBackend(threads=1), NumpyBackend(threads=1))
    )
    assert seen_late == seen
    assert len(seen) > 3
    if stopped == "target_psnr":
        rows = zip(*(result.history for result in own), strict=True)
        reached = [min(row["psnr_train"] for row in at_once) >= TARGET for at_once in rows]
        assert reached == [False] * (len(reached) - 1) + [True], "training pixels of all networks count"
    for a, b in zip(late, own, strict=True):
        assert a.stopped == b.stopped == stopped
        assert a.state.step == b.state.step
        assert [row | {"seconds": 0} for row in a.history] == [row | {"seconds": 0} for row in b.history]
        np.testing.assert_array_equal(a.state.parameters, b.state.parameters)
        if stopped != "diverged":
            assert 0 < b.state.step == len(b.step_losses)
            np.testing.assert_array_equal(a.step_losses, b.step_losses)
    for a, b in zip(saved_late, saved, strict=True):
        assert a.step == b.step
        for x, y in zip(
            [a.parameters, *a.optimizer.values()], [b.parameters, *b.optimizer.values()], strict=True
        ):
            np.testing.assert_array_equal(x, y)


def test_a_wish_to_stop_is_heard_though_a_later_call_has_none(monkeypatch):
    monkeypatch.setattr("coordfit.training.loop.CALLBACK_SECONDS", 0.0)
    config, calls = make_config(SMALL, {"evaluate_every": 1}), []
    trainer = Trainer([Job(bundled_picture(32), config)], NumpyBackend(threads=1))
    [result] = trainer.run(lambda progress: calls.append(progress.evaluated) or len(calls) == 2)
    assert (result.stopped, result.metrics["steps"]) == ("interrupted", 1)
    assert calls == [True, False, True], "the second call was between two evaluations"
