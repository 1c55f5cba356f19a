"""Recorded and replayed steps: the same numbers, no waiting, and a fallback if recording fails."""

import contextlib
import functools
import gc
import re

import numpy as np
import pytest
from coordfit.backends.cupy_backend.backend import STEPS_AT_ONCE
from coordfit.backends.cupy_backend.cublaslt.plans import Plan
from coordfit.backends.cupy_backend.streams import StreamPair
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.cases import slow
from support.trainers import SETTINGS, make_trainer, parameters_of, refuse_to_record, train

import coordfit
from coordfit.backends import Backend, FusedUnavailableError
from coordfit.config import make_config
from coordfit.images import load_picture
from coordfit.pixels.batch_order import BatchOrder
from coordfit.pixels.step_inputs import StepInputs
from coordfit.training.job import Job
from coordfit.training.loop import Loop
from coordfit.training.trainer import Trainer, fit_alone

fake_cupy = pytest.importorskip("support.fake_cupy")
pytestmark = [
    pytest.mark.usefixtures("machine"),
    pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-"),
]


@pytest.fixture
def picture():
    return load_picture(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))


OPTIONS = [
    {},
    {"batch_size": None},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.1},
    {"optimizer": "muon", "depth": 4},
    {"activation": "sine", "loss": "huber"},
    {"encoding": "none", "activation": "tanh"},
    {"dtype": "float64"},
    {"train_on": "every-second", "batch_size": 16},
]


# -- the same numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_recorded_steps_equal_those_that_are_not_bit_by_bit(picture, machine, options):
    steps = STEPS_AT_ONCE + 2 * STEPS_AT_ONCE + 5
    expected = train(make_trainer(picture, refuse_to_record(fake_cupy.CupyOnHost()), **options), steps)
    assert machine.counts["graph launches"] == 0
    trainer = make_trainer(picture, **options)
    np.testing.assert_array_equal(train(trainer, steps), expected)
    assert trainer.backend.gpu.not_recorded == ""
    # The first two steps warm up; they and their neighbours go one by one, and so does the rest at the end.
    assert machine.counts["graph launches"] == (STEPS_AT_ONCE - 2) + 2 + 5
    assert np.isfinite(expected).all()


def test_a_hundred_replays_equal_a_hundred_steps_bit_by_bit(picture, machine):
    expected = train(make_trainer(picture, refuse_to_record(fake_cupy.CupyOnHost())), 102)
    trainer = make_trainer(picture)
    with trainer.backend.activate():
        for _ in range(102):
            trainer.take_steps(1)
    np.testing.assert_array_equal(parameters_of(trainer), expected)
    assert machine.counts["graph launches"] == 100


@pytest.mark.parametrize("options", OPTIONS[:4], ids=str)
def test_recorded_steps_learn_what_the_reference_on_the_cpu_learns(picture, options):
    options = options | {"dtype": "float64"}
    expected = train(make_trainer(picture, NumpyBackend(fused="never", threads=1), **options), 40)
    np.testing.assert_allclose(train(make_trainer(picture, **options), 40), expected, rtol=1e-8, atol=1e-10)


def test_a_resumed_run_equals_an_unbroken_one(picture):
    unbroken = train(make_trainer(picture), 70)
    first = make_trainer(picture)
    train(first, 33)
    with first.backend.activate():
        state = first.state()
    np.testing.assert_array_equal(train(make_trainer(picture, state=state), 70), unbroken)
    np.testing.assert_array_equal(train(make_trainer(picture, first.backend, state), 70), unbroken)


def test_a_run_that_is_put_back_goes_on_from_there(picture):
    trainer = make_trainer(picture)
    with trainer.backend.activate():
        train(trainer, 20)
        state = trainer.state()
        expected = train(trainer, 60)
        trainer.restore(state)
        np.testing.assert_array_equal(train(trainer, 60), expected)


def train_together(jobs, backend, steps):
    trainer = Trainer(jobs, backend)
    with backend.activate():
        while trainer.step < steps:
            trainer.take_steps(steps - trainer.step)
        trainer.collect_losses(wait=True)
        return backend.to_numpy(trainer.mlp.parameters), trainer


@pytest.mark.parametrize("batch_size", [48, None])
def test_networks_together_are_networks_alone(picture, machine, batch_size):
    settings = SETTINGS | {"batch_size": batch_size, "dtype": "float64"}
    configs = [make_config(settings | {"seed": k, "learning_rate": 0.01 / (k + 1)}) for k in range(3)]
    together, trainer = train_together([Job(picture, c) for c in configs], fake_cupy.CupyOnHost(), 40)
    assert machine.counts["graph launches"] > 0
    assert trainer.losses.array.shape == (40, 3)
    for k, config in enumerate(configs):
        alone, _ = train_together([Job(picture, config)], fake_cupy.CupyOnHost(), 40)
        np.testing.assert_allclose(together[k], alone, rtol=1e-9, atol=1e-11)


def test_members_with_masks_of_their_own_draw_the_batches_of_the_cpu(picture):
    rng = np.random.default_rng(1)
    masks = [rng.permutation(144).reshape(12, 12) < 100 for _ in range(2)]
    settings = SETTINGS | {"dtype": "float64"}
    jobs = [Job(picture, make_config(settings | {"seed": k}), mask) for k, mask in enumerate(masks)]
    expected, _ = train_together(jobs, NumpyBackend(fused="never", threads=1), 25)
    found, _ = train_together(jobs, fake_cupy.CupyOnHost(), 25)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"batch_size": None, "dtype": "float64"}], ids=str)
def test_losses_come_to_the_host_in_order_and_nobody_waits_for_them(picture, machine, options):
    reference = make_trainer(picture, NumpyBackend(fused="never", threads=1), **options)
    train(reference, 70)
    trainer = make_trainer(picture, **options)
    early = []
    with trainer.backend.activate():
        while trainer.step < 70:
            trainer.take_steps(70 - trainer.step)
            early.append(trainer.training_step.new_losses())
        assert machine.counts["to host"] == 0
        late = trainer.training_step.new_losses(wait=True)
    assert 0 < len(late) < 70, "some come by themselves, and some when they are waited for"
    found = np.concatenate([*early, late])
    np.testing.assert_allclose(found, reference.training_step.new_losses(), rtol=1e-4)
    assert trainer.training_step.new_losses(wait=True).shape == (0,)


def test_a_whole_fit_on_recorded_steps_is_a_fit(picture):
    options = SETTINGS | {"steps": 60, "evaluate_every": 25}
    expected = fit_alone(Job(picture, make_config(options)), NumpyBackend(threads=1))
    result = fit_alone(Job(picture, make_config(options)), fake_cupy.CupyOnHost())
    assert [row["step"] for row in result.history] == [0, 25, 50, 60]
    for row, other in zip(result.history, expected.history, strict=True):
        assert row["psnr"] == pytest.approx(other["psnr"], abs=0.05)


# -- no waiting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_loop_neither_waits_nor_copies(picture, machine, options):
    trainer, taken = make_trainer(picture, **options), 4 * STEPS_AT_ONCE
    with trainer.backend.activate():
        train(trainer, 40)
        machine.counts.clear()
        while trainer.step < 40 + taken:
            trainer.take_steps(40 + taken - trainer.step)
        counts = dict(machine.counts)
    assert {name for name in counts if "host" in name} <= {
        "from host, without waiting",
        "to host, without waiting",
    }
    assert "synchronize" not in counts
    assert counts["graph launches"] == 4
    assert counts.get("run", 0) == 0, "something ran outside of the graph"
    assert counts["event waits"] <= 4  # of replays long ago: the host is held, not the device


LOOPS = {
    "to a PSNR": ({"target_psnr": 12.0, "evaluate_every": 7}, "target_psnr"),
    "all steps": ({"steps": 110, "evaluate_every": 20}, "steps"),
    "until it diverges": (
        {"optimizer": "sgd", "learning_rate": 1e30, "schedule": "constant", "evaluate_every": 40},
        "diverged",
    ),
    "16 bits": ({"steps": 110, "evaluate_every": 20, "batch_size": None}, "steps"),
    "a sample of pixels": ({"steps": 110, "train_on": "every-second", "batch_size": 16}, "steps"),
    "no encoding": ({"steps": 110, "encoding": "none", "evaluate_every": 20}, "steps"),
}


LOOPS_ALIKE = ("all steps", "a sample of pixels", "no encoding")


def forbid_waiting(trainer, machine, monkeypatch):
    """Once all graphs exist, any wait until the loop's end fails the test."""
    take, end = trainer.take_steps, Loop._end

    def take_steps(limit):
        machine.forbids_waiting = trainer.step >= 40
        take(limit)

    def allow(loop, stopped):
        machine.forbids_waiting = False
        return end(loop, stopped)

    trainer.take_steps = take_steps
    monkeypatch.setattr(Loop, "_end", allow)
    monkeypatch.setattr(Loop, "_go_back", allowing(machine, Loop._go_back))


def allowing(machine, function):
    def call(*arguments):
        machine.forbids_waiting = False
        return function(*arguments)

    return call


@pytest.mark.parametrize("case", ["to a PSNR", "until it diverges", "16 bits", *slow(*LOOPS_ALIKE)])
def test_a_whole_run_waits_for_nothing_until_it_ends(picture, machine, monkeypatch, case):
    """A whole run, with evaluations and callbacks, equals one that waits for every number."""
    options, stopped = LOOPS[case]
    precision = "bf16" if case == "16 bits" else "float32"
    if case == "a sample of pixels":
        monkeypatch.setattr("coordfit.training.member.SAMPLE_PIXELS", 100)
    results, told = [], []
    for waits in (True, False):
        trainer = make_trainer(picture, fake_cupy.CupyOnHost(precision=precision), **options)
        with monkeypatch.context() as patched:
            if waits:
                trainer.backend.readback = functools.partial(Backend.readback, trainer.backend)
            else:
                forbid_waiting(trainer, machine, patched)
            results += trainer.run(lambda progress: told.append(progress.step))
    patient, swift = results
    assert swift.stopped == patient.stopped == stopped
    assert machine.counts["event waits"] > 0, "nothing held the host back"
    np.testing.assert_array_equal(swift.state.parameters, patient.state.parameters)
    for name, array in patient.state.optimizer.items():
        np.testing.assert_array_equal(swift.state.optimizer[name], array)
    assert swift.state.step == patient.state.step == swift.history[-1]["step"]
    rows = [[{**row, "seconds": 0} for row in result.history] for result in results]
    assert rows[0] == rows[1]
    assert len(swift.history) > 3 or stopped == "diverged"
    if stopped != "diverged":
        np.testing.assert_array_equal(swift.step_losses, patient.step_losses)
        assert len(swift.step_losses) == swift.state.step


@pytest.mark.parametrize(("target", "stopped"), [(11.0, "target_psnr"), (None, "steps")])
def test_networks_together_wait_for_nothing_until_they_end(picture, machine, monkeypatch, target, stopped):
    options = SETTINGS | {"steps": 110, "evaluate_every": 20, "target_psnr": target}
    configs = [make_config(options | {"seed": seed}) for seed in (0, 1)]
    found = []
    for waits in (True, False):
        trainer = Trainer([Job(picture, config) for config in configs], fake_cupy.CupyOnHost())
        told = []
        with monkeypatch.context() as patched:
            if waits:
                trainer.backend.readback = functools.partial(Backend.readback, trainer.backend)
            else:
                forbid_waiting(trainer, machine, patched)
            found.append(trainer.run(lambda p, told=told: told.append(p.step) if p.evaluated else None))
        assert told == [row["step"] for row in found[-1][0].history]
    for patient, swift in zip(*found, strict=True):
        assert swift.stopped == patient.stopped == stopped
        assert swift.state.step == patient.state.step == swift.history[-1]["step"] == len(swift.step_losses)
        assert [{**r, "seconds": 0} for r in swift.history] == [{**r, "seconds": 0} for r in patient.history]
        np.testing.assert_array_equal(swift.state.parameters, patient.state.parameters)
        np.testing.assert_array_equal(swift.reconstruction, patient.reconstruction)


def test_learning_rates_that_stay_are_not_sent_again(picture, machine):
    trainer = make_trainer(picture, schedule="constant")
    with trainer.backend.activate():
        train(trainer, 50)
        before = machine.counts["from host, without waiting"]
        train(trainer, 300)
    assert machine.counts["from host, without waiting"] == before


def test_batches_of_the_device_are_those_of_the_host():
    backend = fake_cupy.CupyOnHost()
    orders = [BatchOrder(1000, 33, seed) for seed in (7, 2**32 - 1)]
    step_inputs = StepInputs(lambda step: (0.1,), orders)
    state = backend.device_state(1, 4, step_inputs.order_numbers(), ((), "float32"))
    for step in (0, 1, 29, 30, 31, 100_000):
        state.put_step(step)
        np.testing.assert_array_equal(backend.to_numpy(state.batch()), step_inputs.batch(step))
        state.advance()
        assert backend.to_numpy(state.counter)[0] == step + 1


# -- two streams -------------------------------------------------------------------------------------------

FORKED = [
    {},
    {"batch_size": None, "optimizer": "sgd"},
    {"activation": "tanh", "depth": 4},
    {"precision": "bf16", "batch_size": None},
]


@pytest.mark.parametrize("options", FORKED, ids=str)
def test_two_streams_give_the_same_bits_whichever_is_first(picture, machine, options):
    """dW beside dX: the device may run work in any order that a graph's events allow."""
    options = dict(options)
    precision, found = options.pop("precision", "float32"), {}
    for schedule in (None, "first first", "second first"):
        machine.schedule = schedule or "as asked for"
        backend = fake_cupy.CupyOnHost("always", precision=precision, two_streams=schedule is not None)
        found[schedule] = train(make_trainer(picture, backend, **options), 22)
        assert backend.gpu.not_recorded == ""
        assert (machine.counts["waits of streams"] > 0) == (schedule is not None)
    assert np.isfinite(found[None]).all()
    np.testing.assert_array_equal(found["first first"], found[None])
    np.testing.assert_array_equal(found["second first"], found[None])


def test_each_stream_has_a_workspace_of_its_own(picture, monkeypatch):
    run, workspaces = Plan.run, {}

    def spy(plan, pointers, workspace, stream, *candidate):
        workspaces.setdefault(stream, set()).add(workspace.pointer)
        run(plan, pointers, workspace, stream, *candidate)

    monkeypatch.setattr(Plan, "run", spy)
    train(make_trainer(picture, fake_cupy.CupyOnHost("always", two_streams=True)), 2)
    assert len(workspaces) == 2
    assert set.isdisjoint(*workspaces.values())


@pytest.mark.parametrize(
    ("follows", "reason"),
    [
        (lambda later, earlier: later > earlier, "cudaErrorStreamCaptureUnjoined"),
        (lambda later, earlier: later < earlier, "cudaErrorStreamCaptureIsolation"),
    ],
    ids=["no join", "no fork"],
)
def test_a_stream_that_is_not_bound_is_found_by_the_recording(picture, monkeypatch, follows, reason):
    bind = StreamPair._follow
    monkeypatch.setattr(
        StreamPair,
        "_follow",
        lambda s, later, earlier: follows(later.ptr, earlier.ptr) and bind(s, later, earlier),
    )
    trainer = make_trainer(picture, fake_cupy.CupyOnHost("always", two_streams=True))
    with pytest.raises(FusedUnavailableError, match=reason):
        train(trainer, 5)


# -- the way back ----------------------------------------------------------------------------------------


class Counted:
    """A step that adds 1 to a number on the device, and does some other work."""

    def __init__(self, backend, besides=lambda: None):
        self.number = backend.zeros((), "float64")
        self.calls, self.besides = 0, besides

    def __call__(self):
        self.calls += 1
        self.number += 1.0
        if self.calls == 3:  # the recording
            self.besides()
            self.number += 1.0


REFUSALS = {
    "CuPy's own product": (lambda b: b.xp.matmul(b._a, b._a), "NotImplementedError: calling cuBLAS API"),
    "a copy from the host": (lambda b: b.asarray(np.zeros(3)), "RuntimeError: a copy from the host"),
    "a copy to the host": (lambda b: float(b._a[0, 0]), "RuntimeError: a copy to the host"),
    "a wait": (lambda b: b.synchronize(), "CUDARuntimeError: a wait for the device"),
    "a wait that somebody hid": (lambda b: hide(b.synchronize), "CUDARuntimeError: cudaErrorStreamCapture"),
    "a new buffer": (lambda b: b.gpu.reuse("x", (3,), "float32"), "RuntimeError: .* needs memory"),
    "a full device": (lambda b: fill_up(b), "DeviceMemoryError: gpu:0 has no memory for"),
}


def hide(function):
    with contextlib.suppress(RuntimeError):
        function()


def fill_up(backend):
    fake_cupy.machine.limit = 10
    try:
        backend.zeros((100,), "float64")
    finally:
        fake_cupy.machine.limit = None


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_step_that_cannot_be_recorded_goes_on_and_tells_why(machine, refusal):
    besides, reason = REFUSALS[refusal]
    backend = fake_cupy.CupyOnHost()
    backend._a = backend.zeros((2, 2), "float32")
    with backend.activate():
        step = Counted(backend, functools.partial(besides, backend))
        captured = backend.capture(step)
        for _ in range(6):
            captured()
        assert int(step.number) == 6, "a graph that is not whole was launched, or a step is missing"
    assert step.calls == 7
    assert captured.graph is None
    assert re.match(reason, captured.reason), captured.reason
    assert backend.gpu.not_recorded == captured.reason
    assert machine.capture is None
    assert machine.counts["graph launches"] == 0
    assert gc.isenabled()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_always_raises_where_it_would_fall_back(machine, refusal):
    besides, reason = REFUSALS[refusal]
    backend = fake_cupy.CupyOnHost(fused="always")
    backend._a = backend.zeros((2, 2), "float32")
    with backend.activate():
        captured = backend.capture(Counted(backend, functools.partial(besides, backend)))
        captured()
        captured()
        with pytest.raises(FusedUnavailableError, match=f"the step cannot be recorded: .*{reason}"):
            captured()
    assert machine.capture is None


def test_an_interrupt_leaves_capture_mode(machine):
    def interrupt():
        raise KeyboardInterrupt

    backend = fake_cupy.CupyOnHost()
    with backend.activate():
        captured = backend.capture(Counted(backend, interrupt))
        captured()
        captured()
        with pytest.raises(KeyboardInterrupt):
            captured()
        assert machine.capture is None
        assert gc.isenabled()
        assert captured.graph is None


def test_one_call_is_one_step_whatever_it_is(machine):
    backend = fake_cupy.CupyOnHost()
    number = backend.zeros((), "float64")
    calls = []

    def step():
        calls.append(gc.isenabled())
        nonlocal number
        number += 1.0

    captured = backend.capture(step)
    captured()  # not active: as it is
    with backend.activate():
        for _ in range(9):
            captured()
        assert int(number) == 10
    assert calls == [True, True, True, False], "once outside, twice to warm up, once to be recorded"
    assert captured.graph is not None


@pytest.mark.slow
def test_memory_of_a_graph_is_its_own_and_lives_as_long(machine):
    backend = fake_cupy.CupyOnHost()
    with backend.activate():
        total = backend.zeros((4,), "float64")

        def step():
            nonlocal total
            total += backend.xp.sqrt(total + 1.0)

        captured, expected = backend.capture(step), np.zeros(4)
        for _ in range(8):
            captured()
            gc.collect()
            backend.zeros((4,), "float64").fill(77.0)
            expected += np.sqrt(expected + 1.0)
        np.testing.assert_array_equal(backend.to_numpy(total), expected)
    assert captured.graph is not None
    assert captured._pool.saved


@pytest.mark.parametrize("fused", ["auto", "always"])
def test_a_machine_without_cublaslt_trains_step_by_step(picture, machine, fused):
    backend = fake_cupy.CupyWithoutLt(fused)
    trainer = make_trainer(picture, backend)
    if fused == "always":
        with pytest.raises(FusedUnavailableError, match="cublasLt cannot compute"):
            train(trainer, 10)
        return
    found = train(trainer, 40)
    assert "calling cuBLAS API during stream capture" in backend.gpu.not_recorded
    assert machine.counts["graph launches"] == 0
    assert machine.counts["matmul"] > 0
    np.testing.assert_allclose(found, train(make_trainer(picture), 40), rtol=1e-3, atol=1e-4)


def test_generic_bodies_are_not_recorded(picture, machine):
    trainer = make_trainer(picture, fake_cupy.CupyOnHost(fused="never"))
    assert trainer.training_step.steps_at_once == 1
    train(trainer, 5)
    assert machine.counts["graph launches"] == 0
    assert trainer.backend.capture(lambda: None).reason == "fused=never"


# -- a full device ---------------------------------------------------------------------------------------


def test_a_full_device_is_one_line_with_sizes_and_remedy(machine):
    backend = fake_cupy.CupyOnHost()
    machine.limit = 1_000_000
    line = r"^gpu:0 has no memory for .*\(1000, 1000\).* of 1,073.7 MB in all .*batch size.*--device cpu$"
    with pytest.raises(MemoryError, match=line) as raised:
        backend.scratch((1000, 1000), "float32")
    assert "another 4.0 MB" in str(raised.value)
    assert "\n" not in str(raised.value)
    for work in (
        lambda: backend.zeros((1000, 1000), "float32"),
        lambda: backend.asarray(np.ones((1000, 1000))),
    ):
        with pytest.raises(MemoryError, match=line):
            work()


def test_a_full_device_in_the_middle_of_a_computation_is_told_too(machine):
    backend = fake_cupy.CupyOnHost()
    a = backend.zeros((400, 400), "float64")
    machine.limit = 1_000_000
    with pytest.raises(MemoryError, match=r"^gpu:0 has no memory .*--device cpu$"), backend.activate():
        a + a


def test_a_rendering_takes_fewer_pixels_at_a_time_where_memory_is_short(picture, machine):
    model = make_trainer(picture).model
    expected = model.render(48, 48)
    machine.limit = 48 * 48 * 16  # a quarter of the activations of all pixels, in bytes
    # Another number of rows may be another kernel of the BLAS: a rounding of colours in [0, 1].
    np.testing.assert_allclose(model.render(48, 48), expected, rtol=0, atol=1e-6)
    machine.limit = 2000
    with pytest.raises(MemoryError, match="gpu:0 has no memory"):
        model.render(48, 48)


def test_a_fit_on_a_full_device_says_so(machine, monkeypatch):
    pixels = np.zeros((64, 64, 3), np.uint8)
    backend = fake_cupy.CupyOnHost()
    machine.limit = 100_000
    monkeypatch.setattr("coordfit.tasks.jobs.settings.get_backend", lambda *args, **options: backend)
    with pytest.raises(MemoryError, match="gpu:0 has no memory"):
        coordfit.fit(pixels, steps=5)
