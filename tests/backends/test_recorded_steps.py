"""Recorded steps in compiled code: the same numbers as step by step, or an error."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from coordfit.backends import NotRecordedError, get_backend
from coordfit.config import make_config
from coordfit.images import load_picture
from coordfit.pixels.batch_order import permuted
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

interpreter = pytest.importorskip(
    "coordfit.backends.numba_backend.compiled.interpreter", reason="Numba is not installed"
)
instructions = pytest.importorskip("coordfit.backends.numba_backend.compiled.instructions")
Barrier = pytest.importorskip("coordfit.backends.numba_backend.compiled.barrier").Barrier
recording = pytest.importorskip("coordfit.backends.numba_backend.recording")

SMALL = {
    "hidden_size": 48,
    "depth": 3,
    "num_frequencies": 40,
    "steps": 37,
    "optimizer": "adam",
    "learning_rate": 3e-3,
}
OPTIONS = [
    {"optimizer": "muon", "depth": 4},
    {},
    {"batch_size": 32},
    {"batch_size": 300, "schedule": "cosine"},
    {"batch_size": 100, "train_on": "every-second"},
    {"optimizer": "sgd", "learning_rate": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "batch_size": 64},
    {"loss": "mae"},
    {"loss": "huber", "delta": 0.1, "batch_size": 50},
    {"output_activation": "identity"},
    {"activation": "tanh", "batch_size": 64},
    {"activation": "sine", "omega": 5.0, "optimizer": "muon", "depth": 4},
    {"activation": "sine", "output_activation": "sine", "omega": 5.0, "dtype": "float64", "batch_size": 64},
    {"dtype": "float64", "batch_size": 77},
]


@pytest.fixture(scope="module")
def picture():
    return load_picture(np.random.default_rng(0).uniform(size=(32, 24, 3)))


def backend_of(threads, recorded=True, **options):
    backend = get_backend("numba", threads=threads, **options)
    if not recorded:
        backend.device_state = lambda *_: None
    return backend


def train(trainer, steps):
    with trainer.backend.activate():
        while trainer.step < steps:
            trainer.take_steps(steps - trainer.step)
    return trainer


def parameters_of(trainer):
    return np.array(trainer.training_step.mlp.parameters)


def is_recorded(trainer):
    return trainer.training_step.is_recorded


def trainer_of(picture, options, *, threads=2, recorded=True, **backend_options):
    return Trainer(
        [Job(picture, make_config(SMALL, options))], backend_of(threads, recorded, **backend_options)
    )


CASES = [(options, 2) for options in OPTIONS] + [(options, n) for options in OPTIONS[:2] for n in (1, 3)]


@pytest.mark.parametrize(("options", "threads"), CASES, ids=str)
def test_recorded_steps_learn_what_the_host_would_drive(picture, options, threads):
    recorded = train(trainer_of(picture, options, threads=threads), 37)
    driven = train(trainer_of(picture, options, threads=threads, recorded=False), 37)
    assert is_recorded(recorded)
    assert not is_recorded(driven)
    tolerance = 1e-12 if options.get("dtype") == "float64" else 2e-4
    np.testing.assert_allclose(parameters_of(recorded), parameters_of(driven), rtol=0, atol=tolerance)
    again = train(trainer_of(picture, options, threads=threads), 37)
    np.testing.assert_array_equal(parameters_of(again), parameters_of(recorded))


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_steps_at_once_are_steps_one_by_one(picture, options):
    at_once, alone = (trainer_of(picture, options) for _ in range(2))
    train(at_once, 37)
    with alone.backend.activate():
        for _ in range(37):
            alone.take_steps(1)
    np.testing.assert_array_equal(parameters_of(at_once), parameters_of(alone))


def test_a_resumed_run_equals_an_unbroken_one(picture):
    whole = train(trainer_of(picture, {"batch_size": 64}), 37)
    half, other = (trainer_of(picture, {"batch_size": 64}) for _ in range(2))
    other.restore(train(half, 9).state())
    np.testing.assert_array_equal(parameters_of(train(other, 37)), parameters_of(whole))


FIT_AND_TELL = """
import hashlib, numpy, coordfit
from coordfit.backends import get_backend
print(get_backend("numba").preparation)
picture = numpy.random.default_rng(0).uniform(size=(16, 24, 3))
for optimizer, activation in ("muon", "sine"), ("adam", "relu"):
    result = coordfit.fit(picture, hidden_size=8, depth=2, num_frequencies=4, batch_size=64, steps=300,
                          optimizer=optimizer, activation=activation, device="numba", threads=1)
    print(hashlib.sha256(result.render(16, 24).tobytes()).hexdigest())
"""


@pytest.mark.very_slow
def test_code_from_the_cache_gives_the_bits_of_code_just_compiled(tmp_path):
    """Otherwise a run that another process resumes would differ from an uninterrupted one."""
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    tell = [sys.executable, "-c", FIT_AND_TELL]
    first, second = (subprocess.check_output(tell, env=environment, text=True) for _ in range(2))
    said, *bits = first.splitlines()
    assert said == "the step is compiled for this processor, once: some ten seconds"
    assert second.splitlines() == ["None", *bits]
    assert len(bits) == 2
    assert any(tmp_path.rglob("*.nbi"))


@pytest.mark.parametrize(
    "differences",
    [
        [{"seed": k} for k in range(4)],
        [{"sigma": s} for s in (1.0, 2.0, 4.0)],
        [{"learning_rate": r, "seed": 1} for r in (1e-3, 1e-2)],
        [{"seed": k, "learning_rate": 1e-3 * (k + 1)} for k in range(5)],
    ],
    ids=["seeds", "sigmas", "rates", "both"],
)
@pytest.mark.parametrize("batch_size", [100, None])
def test_members_on_workers_are_recorded_too(monkeypatch, picture, differences, batch_size):
    monkeypatch.setattr(
        "coordfit.backends.numba_backend.backend.NumbaBackend.block_bytes", 1
    )  # blocks of some 64 rows
    mask = np.random.default_rng(2).uniform(size=(32, 24)) < 0.7
    jobs = [Job(picture, make_config(SMALL, {"batch_size": batch_size}, own), mask) for own in differences]
    recorded = train(Trainer(jobs, backend_of(2)), 37)
    driven = train(Trainer(jobs, backend_of(2, recorded=False)), 37)
    assert is_recorded(recorded)
    # Adam's steps of 1e-2 at gradients near 0 turn on their last bit, which is that of the BLAS.
    np.testing.assert_allclose(parameters_of(recorded), parameters_of(driven), rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"batch_size": 50}])
def test_losses_of_recorded_steps_are_the_batch_s_losses(picture, options):
    trainer = trainer_of(picture, options)
    driven = trainer_of(picture, options, recorded=False)
    train(trainer, 32)
    values = []
    with driven.backend.activate():
        for step in range(32):
            batch = driven.training_step.step_inputs.batch(step)
            values.append(float(driven.training_step(batch, driven.training_step.step_inputs.rate(step))))
    np.testing.assert_allclose(trainer.training_step.new_losses(), values, rtol=1e-4)


def test_generic_bodies_are_not_recorded(picture):
    assert not is_recorded(trainer_of(picture, {}, fused="never"))


@pytest.mark.parametrize("options", [{}, {"batch_size": 64}], ids=str)
def test_steps_that_compute_features_are_driven_by_the_host(picture, monkeypatch, options):
    monkeypatch.setattr("coordfit.network.cost.FEATURE_TABLE_BYTES", 0)
    trainer = trainer_of(picture, options)
    assert not is_recorded(trainer)
    before = parameters_of(trainer)
    assert not np.array_equal(parameters_of(train(trainer, 3)), before)


USES = {
    "sum": lambda a: a + 1.0,
    "root": np.sqrt,
    "take": lambda a: np.take(a, [0]),
    "concat": lambda a: np.concat([a, a]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_to_come_refuses_to_be_computed_with(use):
    array = recording.pending(np.zeros(3))
    with pytest.raises(NotRecordedError, match="not one of the compiled primitives"):
        use(array[1:].reshape(-1))


def test_a_refused_recording_leaves_the_backend_as_it_was():
    backend = backend_of(2)
    matmul = backend.matmul

    def step():
        backend.matmul(np.eye(2), np.eye(2))

    with pytest.raises(NotRecordedError, match="matmul"):
        backend.capture(step)
    assert backend.matmul is matmul
    np.testing.assert_array_equal(backend.matmul(np.eye(2), np.eye(2)), np.eye(2))


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("counter", [0, 3, 10_000_019])
def test_the_order_of_batches_is_the_host_s(n, counter):
    size = min(n, 5)
    backend = backend_of(1)
    state = backend.device_state(
        1, 1, [(n, size, seed) for seed in (0, 123_456_789, 2**32 - 1)], ((), "float32")
    )
    state.put_step(counter)
    indices = np.asarray(state.batch()).view(np.ndarray)  # outside of a recording it is computed at once
    epoch, place = np.divmod(np.arange(counter * size, (counter + 1) * size), n)
    for row, seed in zip(indices, (0, 123_456_789, 2**32 - 1), strict=True):
        np.testing.assert_array_equal(row, permuted(place, n, seed, epoch))


def meet(barrier, rounds, seen):
    program = np.concatenate([instructions.instruction(0)] * rounds)  # WAITs alone
    interpreter.execute(program, (0, np.int64(0)), np.zeros(1, np.float32), barrier.argument())
    seen.append(threading.get_ident())


def test_threads_meet_as_often_as_they_should():
    barrier, seen = Barrier(3), []
    threads = [threading.Thread(target=meet, args=(barrier, 500, seen)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(seen) == 3


def test_a_broken_barrier_holds_nobody():
    barrier, seen = Barrier(2), []
    thread = threading.Thread(target=meet, args=(barrier, 500, seen))
    thread.start()
    assert thread.is_alive()
    barrier.abort()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_an_error_beside_the_workers_frees_them(picture):
    trainer = train(trainer_of(picture, {"batch_size": 64}), 3)
    backend = trainer.backend
    steps = recording.Recording(2)
    for part in ([instructions.instruction(0)], [instructions.instruction(0)]):
        steps.add(part * 2, dtype=None)

    def fails():
        raise KeyboardInterrupt

    def waits():
        meet(steps.barrier, 3, [])

    with backend.activate(), pytest.raises(KeyboardInterrupt):
        backend.run_workers([fails, waits], steps.barrier.abort)
