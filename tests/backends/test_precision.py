"""Activations of 16 bits: gradients are close to float64's, sums stay float32, and the CPU refuses them."""

import functools

import numpy as np
import pytest
from coordfit.backends.numpy_backend.backend import NumpyBackend
from support.fake_cublaslt import from_bfloat16, to_bfloat16
from support.trainers import make_trainer, refuse_to_record, train

from coordfit.backends import DeviceUnavailableError, FusedUnavailableError, get_backend
from coordfit.cli import main
from coordfit.config import make_config
from coordfit.errors import ConfigError
from coordfit.images import load_picture
from coordfit.network.activations import ReLU
from coordfit.tasks.fit import fit
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

fake_cupy = pytest.importorskip("support.fake_cupy")
on_host = pytest.mark.skipif(bool(fake_cupy.why_unavailable()), reason=fake_cupy.why_unavailable() or "-")

# Relative Frobenius errors of the gradient: three to four times what the types' roundings make.
LIMITS = {"bf16": 5e-2, "fp16": 1e-2}
EPILOGUES = (4, 6, 256)


pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(params=LIMITS)
def precision(request):
    return request.param


@pytest.fixture
def picture():
    return load_picture(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def make_backend(precision, *refused, fused="auto"):
    backend = fake_cupy.CupyOnHost(fused, precision=precision)
    backend.lt.refuses = lambda query: query.epilogue in refused
    return backend


TIERS = {
    "all epilogues": lambda precision: make_backend(precision, fused="always"),
    "plain products": lambda precision: make_backend(precision, *EPILOGUES),
    "CuPy's products": lambda precision: fake_cupy.CupyWithoutLt(precision=precision),
}
OPTIONS = [
    {"batch_size": None},
    {"batch_size": 20},
    {"activation": "sine", "omega": 3.0},
    {"activation": "tanh", "loss": "huber", "optimizer": "sgd", "momentum": 0.9},
    {"encoding": "none"},
    {"encoding": "none", "activation": "sine", "omega": 3.0},
    {"output_activation": "identity", "loss": "mae"},
    {"depth": 1},
    {"hidden_size": 3},
]


def gradient_of_one_step(backend, picture, **options):
    trainer = make_trainer(picture, backend, **options)
    with backend.activate():
        trainer.take_steps(1)
        loss = trainer.training_step.new_losses(wait=True)
        return backend.to_numpy(trainer.training_step.gradient) / backend.loss_scale, loss


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def check_gradient(backend, picture, **options):
    reference = NumpyBackend(fused="never", threads=1)
    expected, loss = gradient_of_one_step(reference, picture, **options, dtype="float64")
    found, found_loss = gradient_of_one_step(backend, picture, **options)
    assert found.dtype == np.float32
    error = relative_error(found, expected)
    assert error < LIMITS[backend.precision]
    np.testing.assert_allclose(found_loss, loss, rtol=2e-2)
    assert not backend.lt.faults
    return error


@on_host
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_of_a_step_are_those_of_float64_to_the_types_rounding(picture, precision, options):
    error = check_gradient(make_backend(precision, fused="always"), picture, **options)
    if "depth" not in options and options.get("encoding") != "none":
        assert error > 1e-5, "nothing was rounded: 16 bits were not used"


@on_host
@pytest.mark.parametrize("tier", list(TIERS)[1:])
@pytest.mark.parametrize("options", OPTIONS[1:3], ids=str)
def test_every_tier_gives_the_same(picture, precision, tier, options):
    check_gradient(TIERS[tier](precision), picture, **options)


@on_host
def test_more_channels_than_the_kernel_has_go_without_it(precision, machine):
    rng = np.random.default_rng(0)
    picture = load_picture(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8))
    check_gradient(make_backend(precision), picture)
    assert machine.counts["head_step"] == 1
    backend = make_backend(precision)
    # As if the kernel took three channels at most.
    backend.output_step = functools.partial(type(backend).output_step, backend)
    machine.counts.clear()
    check_gradient(backend, picture)
    assert machine.counts["head_step"] == 0


@on_host
def test_what_is_kept_in_which_type(picture, precision):
    backend = make_backend(precision)
    trainer = make_trainer(picture, backend, batch_size=None, optimizer="adam")
    train(trainer, 3)
    (worker,) = trainer.training_step.parts
    stored = {"bf16": "uint16", "fp16": "float16"}[precision]
    assert [str(layer.output_buffer.dtype) for layer in worker.mlp.layers] == [stored, stored, "float32"]
    assert str(worker.table.array.dtype) == str(worker.features.dtype) == stored
    wide = [trainer.model.mlp.parameters, trainer.training_step.gradient, *trainer.optimizer.state.values()]
    assert {str(array.dtype) for array in wide} == {"float32"}
    assert {row["types"] for row in backend.gpu.autotuner.report()} <= {
        *("bfloat16", "bfloat16 -> float32", "float16", "float16 -> float32"),
    }


def rounded(parameters, precision):
    return to_bfloat16(parameters) if precision == "bf16" else parameters.astype(np.float16)


@on_host
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizer_writes_the_copy_in_its_own_pass(picture, precision, optimizer, machine):
    backend = make_backend(precision)
    trainer = make_trainer(picture, backend, optimizer=optimizer, batch_size=20)
    train(trainer, 3)
    parameters = trainer.model.mlp.parameters
    compute_copy = backend.to_numpy(backend.gpu.compute_copies.of(parameters))
    np.testing.assert_array_equal(compute_copy, rounded(backend.to_numpy(parameters), precision))
    machine.counts.clear()
    with backend.activate():
        trainer.take_steps(16)
    assert machine.counts["cast"] == 1, "one at the start of a replay, and none in its 16 steps"
    compute_copy = backend.to_numpy(backend.gpu.compute_copies.of(parameters))
    np.testing.assert_array_equal(compute_copy, rounded(backend.to_numpy(parameters), precision))


@on_host
def test_parameters_that_others_wrote_are_read_anew(picture, precision):
    trainer = make_trainer(picture, make_backend(precision), batch_size=20)
    with trainer.backend.activate():
        train(trainer, 4)
        state = trainer.state()
        expected = train(trainer, 8)
        trainer.restore(state)
        rendered = trainer.model.render()
        np.testing.assert_array_equal(train(trainer, 8), expected)
    fresh = make_trainer(picture, make_backend(precision), state)
    np.testing.assert_array_equal(fresh.model.render(), rendered)


@on_host
@pytest.mark.parametrize("options", OPTIONS[1:3], ids=str)
def test_recorded_steps_equal_those_that_are_not_bit_by_bit(picture, precision, options, machine):
    options = {"batch_size": 20} | options
    expected = train(make_trainer(picture, refuse_to_record(make_backend(precision)), **options), 20)
    assert machine.counts["graph launches"] == 0
    trainer = make_trainer(picture, make_backend(precision, fused="always"), **options)
    np.testing.assert_array_equal(train(trainer, 20), expected)
    assert machine.counts["graph launches"] > 0
    assert np.isfinite(expected).all()


@on_host
@pytest.mark.parametrize(
    "options", [{"encoding": "gaussian"}, {"encoding": "none", "activation": "tanh"}], ids=str
)
def test_networks_together_are_networks_alone(picture, precision, options):
    def trained(jobs):
        trainer = Trainer(jobs, make_backend(precision, fused="always"))
        with trainer.backend.activate():
            trainer.take_steps(3)
            assert trainer.step == 3
            return trainer.backend.to_numpy(trainer.mlp.parameters)

    settings = {"hidden_size": 16, "depth": 3, "num_frequencies": 4, "steps": 400, "batch_size": 20} | options
    jobs = [Job(picture, make_config(settings | {"seed": k, "sigma": 1.0 + k})) for k in range(3)]
    together = trained(jobs)
    for k, job in enumerate(jobs):
        np.testing.assert_array_equal(together[k], np.atleast_2d(trained([job]))[0])


@on_host
def test_a_fit_in_16_bits_learns_the_picture(picture, precision):
    options = {"steps": 80, "evaluate_every": 80, "batch_size": None}
    psnr = {}
    for word in ("float32", precision):
        [result] = make_trainer(picture, make_backend(word), **options).run()
        psnr[word] = result.metrics["psnr"]
        assert result.metrics["precision"] == word
    assert psnr["float32"] > 10
    assert psnr[precision] == pytest.approx(psnr["float32"], abs=0.5)


@on_host
def test_small_gradients_need_the_loss_scale(picture):
    """As at the end of a run on a large picture: without the scale, gradients underflow in float16."""
    options = {"loss": "huber", "delta": 1e-4, "batch_size": None}
    check_gradient(make_backend("fp16"), picture, **options)
    backend = make_backend("fp16")
    backend.loss_scale = 1.0
    with pytest.raises(AssertionError):
        check_gradient(backend, picture, **options)


CLOSED_FORMS = {
    "polish": {"polish": "ridge", "hidden_size": 16, "steps": 5},
    "gauss-newton": {"optimizer": "gauss-newton", "depth": 2, "output_activation": "identity", "steps": 2},
    "tiles": {"tiles": 4, "steps": 4},
}


@on_host
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_read_activations_as_numbers(precision, name, monkeypatch):
    """The words of bfloat16 are integers, with which any array library would compute."""
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    options = {"num_frequencies": 4, "encoding": "gaussian", "tiles": "none"} | CLOSED_FORMS[name]
    psnr = {}
    for word in ("float32", precision):
        backend = fake_cupy.CupyOnHost(precision=word)
        monkeypatch.setattr(
            "coordfit.tasks.jobs.settings.get_backend", lambda *_, backend=backend, **__: backend
        )
        psnr[word] = fit(picture, **options).metrics["psnr"]
    assert psnr[precision] == pytest.approx(psnr["float32"], abs=0.7)


@on_host
def test_products_of_float64_and_generic_bodies_are_not_touched(precision):
    a = np.random.default_rng(0).normal(size=(9, 9))
    for fused, dtype, limit in (("auto", "float64", 1e-15), ("never", "float32", 1e-6)):
        backend = make_backend(precision, fused=fused)
        array = backend.asarray(a, dtype)
        assert relative_error(backend.to_numpy(backend.matmul(array, array)), a @ a) < limit
        assert backend.stored_dtype(dtype) == dtype


@on_host
def test_words_of_16_bits_never_reach_a_generic_body(precision):
    backend = make_backend(precision)
    W, b = (backend.zeros(s, "float64") for s in ((2, 2), (1, 2)))
    x = backend.zeros((3, 2), backend.stored_dtype("float32"))
    with pytest.raises(FusedUnavailableError, match=f"precision {precision} has fused bodies alone"):
        backend.linear(x, W, b, ReLU())
    with pytest.raises(FusedUnavailableError, match="takes arrays of one dtype"):
        backend.activation_backward(ReLU(), x, backend.zeros((3, 2), "float64"))


def test_the_words_of_bfloat16_are_the_upper_halves_of_float32():
    assert from_bfloat16(to_bfloat16(np.float32([1.0, -2.5]))).tolist() == [1.0, -2.5]


# -- who refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["tf32", "bf16", "fp16"])
def test_the_cpu_has_no_other_precision(word):
    for device in ("cpu", "numpy"):
        with pytest.raises(ValueError, match=f"precision {word} is for a GPU"):
            get_backend(device, precision=word)


@on_host
@pytest.mark.parametrize("word", ["tf32", "bf16", "fp16"])
def test_a_precision_beside_float64_is_refused(monkeypatch, capsys, tmp_path, word):
    """It would have no effect: precisions are for products of float32 arrays."""
    monkeypatch.setattr("coordfit.tasks.jobs.settings.get_backend", lambda *_, **__: make_backend(word))
    words = ["--dtype", "float64", "--precision", word, "--tiles", "none", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    line = f"coordfit: precision {word} is of float32 networks, not float64; leave one of the two out\n"
    assert capsys.readouterr().err == line
    assert not (tmp_path / "run").exists()
    pixels = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr("coordfit.tasks.jobs.settings.get_backend", lambda *_, **__: make_backend(word))
    with pytest.raises(ConfigError, match=f"precision {word} is of float32 networks"):
        fit(pixels, dtype="float64", tiles=4, steps=1)


@pytest.mark.parametrize("word", ["tf32", "bf16", "fp16"])
def test_a_precision_beside_generic_bodies_is_refused(word):
    with pytest.raises(ValueError, match=f"precision {word} is of fused bodies; leave it out, or fused=never"):
        get_backend("gpu", precision=word, fused="never")


def test_a_precision_is_a_reason_not_to_take_the_cpu(monkeypatch):
    monkeypatch.setattr("coordfit.backends.cupy_backend.why_unavailable", lambda index=0: "none; buy one")
    assert get_backend("auto").device == "cpu"
    with pytest.raises(DeviceUnavailableError, match=r"^precision bf16 needs a GPU: none; buy one$"):
        get_backend("auto", precision="bf16")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--device", "cpu", "--precision", "bf16"], 2, "coordfit: precision bf16 is for a GPU"),
        (["--device", "auto", "--precision", "tf32"], 3, "coordfit: precision tf32 needs a GPU: none here"),
        (["--precision", "int8"], 2, "coordfit: --precision must be one of float32, tf32"),
    ],
)
def test_the_command_line_says_so_in_one_line(monkeypatch, capsys, tmp_path, words, code, said):
    monkeypatch.setattr("coordfit.backends.cupy_backend.why_unavailable", lambda index=0: "none here")
    assert main([*words, "--out", str(tmp_path / "run")]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


# -- what a device lacks ---------------------------------------------------------------------------------


@pytest.fixture
def turing(monkeypatch):
    properties = {"name": b"Tesla T4", "major": 7, "minor": 5, "totalGlobalMem": 1 << 34}
    monkeypatch.setattr(fake_cupy.cuda.runtime, "getDeviceProperties", lambda index: properties)


@on_host
@pytest.mark.parametrize("word", ["tf32", "bf16"])
def test_a_device_that_is_too_old_for_a_precision_is_told(turing, word):
    told = rf"^gpu:0 \(Tesla T4, compute capability 7.5\) has no {word}; take --precision fp16 or float32$"
    with pytest.raises(DeviceUnavailableError, match=told):
        fake_cupy.CupyOnHost(precision=word)
    assert fake_cupy.CupyOnHost(precision="fp16").stored_dtype("float32") == "float16"


@on_host
def test_a_device_says_what_keeps_it_below_its_best(turing):
    assert make_backend("fp16").limits() == [
        "gpu:0 (Tesla T4, compute capability 7.5) has no bf16; take --precision fp16 or float32"
    ]
    (line, _) = fake_cupy.CupyWithoutLt().limits()
    assert line.startswith("products are CuPy's own and no step is recorded, since no cublasLt library")
    assert fake_cupy.CupyOnHost("never").limits()[0].startswith("products are CuPy's own")
    assert get_backend("cpu").limits() == []


@on_host
def test_a_device_without_limits_names_none():
    assert make_backend("bf16").limits() == []
