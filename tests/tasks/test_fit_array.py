"""Arrays and scattered points as functions: units, unknown values, any number of axes, tiles, files."""

import itertools
import json

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

import coordfit
from coordfit.errors import ConfigError, ModelFileError, SignalError
from coordfit.files.tensor_file import load_tensors, save_tensors
from coordfit.images.interpolation import nearest_fill
from coordfit.signals.arrays import array_signal
from coordfit.tasks.jobs.plan import plan_array
from coordfit.tasks.jobs.settings import Settings
from coordfit.training.trainer import Trainer, fit_alone, fit_together

SMALL = {"hidden_size": 12, "depth": 3, "num_frequencies": 8, "steps": 8, "batch_size": 64}
SHAPES = {1: (50,), 2: (12, 17), 3: (7, 9, 8), 4: (4, 5, 6, 5)}
NAMES = "tzyx"
EXACT = {"rtol": 0, "atol": 2e-5}


def values_of(dimensions, channels=None):
    shape = SHAPES[dimensions] + (() if channels is None else (channels,))
    return np.random.default_rng(dimensions).normal(100.0, 40.0, shape).astype(np.float32)


def fitted(dimensions, channels=None, **options):
    values = values_of(dimensions, channels)
    return coordfit.fit_array(values, NAMES[-dimensions:], **SMALL | options)


def places_of(shape, spacing, origin):
    """The positions of samples, (*shape, D) with the last axis first."""
    along = [o + s * np.arange(n) for n, s, o in zip(shape, spacing, origin, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij")[::-1], axis=-1)


# -- units and shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"tiles": 4, "steps": 3, "batch_size": None}], ids=["network", "tiles"]
)
@pytest.mark.parametrize("dimensions", SHAPES)
def test_a_model_takes_places_and_gives_values_in_the_units_of_the_array(dimensions, options):
    spacing, origin = (0.5, 2.0, 3.0, 0.25)[:dimensions], (-7.0, 0.0, 100.0, 4.0)[:dimensions]
    result = fitted(dimensions, 2, spacing=spacing, origin=origin, **options)
    values, shape = values_of(dimensions, 2), SHAPES[dimensions]
    at_samples = result.model(places_of(shape, spacing, origin))
    np.testing.assert_allclose(
        np.clip(at_samples, values.min(), values.max()), result.reconstruction, atol=0.02
    )
    assert result.reconstruction.shape == values.shape
    rmse = float(np.sqrt(np.mean(np.square(result.reconstruction.astype(float) - values))))
    assert result.metrics["rmse"] == pytest.approx(rmse, rel=1e-3)
    assert result.metrics["psnr"] == pytest.approx(20 * np.log10(np.ptp(values) / rmse), abs=1e-2)
    assert result.metrics["snr"] == pytest.approx(10 * np.log10(np.mean(values**2.0) / rmse**2), abs=1e-2)


@pytest.mark.parametrize("dimensions", SHAPES)
def test_any_shape_and_window_is_drawn_at_the_middles_of_its_samples(dimensions):
    result = fitted(dimensions, tiles=4, steps=3, batch_size=None) if dimensions == 3 else fitted(dimensions)
    own, shape = SHAPES[dimensions], tuple(2 * side + 1 for side in SHAPES[dimensions])
    drawn = result.render(shape=shape)
    ratio = [n / m for n, m in zip(own, shape, strict=True)]
    expected = result.model(places_of(shape, ratio, [0.5 * r - 0.5 for r in ratio]))
    low, high = (limit(values_of(dimensions)) for limit in (np.min, np.max))
    np.testing.assert_allclose(drawn, np.clip(expected, low, high), rtol=0, atol=0.02)
    starts, sides = (1, 2, 3, 1)[:dimensions], (2, 3, 1, 2)[:dimensions]
    window = tuple(slice(s, s + n) for s, n in zip(starts, sides, strict=True))
    crop = (*starts[::-1], *sides[::-1])
    np.testing.assert_allclose(result.render(shape=shape, crop=crop), drawn[window], rtol=0, atol=0.02)
    with pytest.raises(ValueError, match=rf"along each of {dimensions} axes|1 pixel at least"):
        result.render(shape=(*shape, 3))


def test_two_axes_are_a_picture():
    """The case D = 2 is the same text: a picture as an array has the same network, bit for bit."""
    picture = coordfit.bundled_picture(32)
    options = SMALL | {"sigma": 4.0, "seed": 3}
    as_array = coordfit.fit_array(picture.pixels, "yxc", value_range=(0.0, 1.0), **options)
    as_picture = coordfit.fit(picture, **options)
    for ours, theirs in itertools.zip_longest(as_array.history, as_picture.history):
        assert ours["loss"] == theirs["loss"]
    np.testing.assert_array_equal(as_array.reconstruction, as_picture.reconstruction)
    np.testing.assert_allclose(
        as_array.model(np.array([[3.0, 5.0]])), as_picture.model(np.array([[3.5, 5.5]]) / 32), **EXACT
    )


def test_an_affine_map_of_the_values_is_undone():
    values = values_of(3)
    first = coordfit.fit_array(values, **SMALL).reconstruction
    mapped = coordfit.fit_array(1e6 - 250.0 * values.astype(np.float64), **SMALL, value_range="array")
    # The range is turned round, so that networks differ; another scale and another type alone change nothing.
    scaled = coordfit.fit_array(4.0 * values.astype(np.float64) - 1e3, **SMALL).reconstruction
    np.testing.assert_allclose(scaled, 4.0 * first - 1e3, rtol=0, atol=0.05)
    assert mapped.reconstruction.min() >= (1e6 - 250.0 * values).min() - 1.0


def test_channels_may_have_ranges_of_their_own():
    values = values_of(2, 2) * [1.0, 1e6] + [0.0, 5e9]
    result = coordfit.fit_array(values, value_range="channel", axes="yxc", **SMALL | {"steps": 200})
    share = np.abs(result.reconstruction - values).mean(axis=(0, 1)) / np.ptp(values, axis=(0, 1))
    assert (share < 0.2).all()
    assert result.metrics["rmse"] is None


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, bool, np.float64])
def test_whole_numbers_are_taken_as_they_are(kind):
    values = (np.random.default_rng(0).integers(0, 200, (5, 6, 7)) * (np.indices((5, 6, 7))[0] > 0)).astype(
        kind
    )
    result = coordfit.fit_array(values, **SMALL)
    assert result.reconstruction.dtype == np.float32
    assert result.metrics["value_range"] == [[float(values.min())], [float(values.max())]]


def test_an_axis_of_channels_may_stand_anywhere():
    values = values_of(3)
    in_front = coordfit.fit_array(values, ("c", "y", "x"), **SMALL)
    behind = coordfit.fit_array(np.moveaxis(values, 0, -1), "yx", **SMALL)
    np.testing.assert_array_equal(in_front.reconstruction, behind.reconstruction)


# -- unknown values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tiles": 4, "batch_size": None}], ids=["network", "tiles"])
def test_unknown_values_are_never_seen_and_never_scored(options):
    values, hidden = values_of(3).astype(np.float64), np.random.default_rng(5).random(SHAPES[3]) < 0.4
    with_nan = coordfit.fit_array(np.where(hidden, np.nan, values), **SMALL | options)
    value_range = values[~hidden].min(), values[~hidden].max()
    masked = [
        coordfit.fit_array(
            np.where(hidden, other, values), known=~hidden, value_range=value_range, **SMALL | options
        )
        for other in (values, 100.0)
    ]
    for result in masked:
        np.testing.assert_array_equal(result.reconstruction, with_nan.reconstruction)
    assert with_nan.metrics["psnr_held_out"] is None
    assert with_nan.metrics["psnr"] == with_nan.metrics["psnr_train"]
    error = np.square((with_nan.reconstruction - values) / np.ptp(value_range))
    assert masked[0].metrics["psnr_held_out"] == pytest.approx(-10 * np.log10(error[hidden].mean()), abs=1e-3)
    assert with_nan.metrics["psnr"] == pytest.approx(-10 * np.log10(error[~hidden].mean()), abs=1e-3)


@pytest.mark.parametrize("dimensions", SHAPES)
def test_the_nearest_known_sample_is_found_in_any_number_of_axes(dimensions):
    rng = np.random.default_rng(dimensions)
    known = rng.random(SHAPES[dimensions]) < 0.05
    known.flat[0] = True
    own = distance_transform_edt(~known)
    places = np.stack(np.indices(known.shape), axis=-1).astype(float)
    found = nearest_fill(places, known)
    np.testing.assert_allclose(np.linalg.norm(found - places, axis=-1), own)


# -- batches, states, files ------------------------------------------------------------------------------


def jobs_of(count, **options):
    signal = array_signal(values_of(3))
    settings = Settings([SMALL | {"sigma": 2.0} | options])
    return [plan_array(signal, settings.over({"seed": seed})) for seed in range(count)]


@pytest.mark.parametrize("encoding", ["gaussian", "grid"])
def test_networks_of_a_volume_together_are_those_alone(encoding):
    backend = coordfit.get_backend("numpy")
    jobs = jobs_of(3, encoding=encoding, dtype="float64")
    for together, job in zip(fit_together(jobs, backend), jobs, strict=True):
        alone = fit_alone(job, backend)
        np.testing.assert_allclose(together.reconstruction, alone.reconstruction, rtol=0, atol=1e-6)


def test_a_run_goes_on_from_its_state_bit_for_bit():
    backend, [job] = coordfit.get_backend("numpy"), jobs_of(1)
    whole, trainer = fit_alone(job, backend), Trainer([job], backend)
    with backend.activate():
        trainer.take_steps(3)
    gone_on = fit_alone(job, backend, state=trainer.state())
    np.testing.assert_array_equal(gone_on.reconstruction, whole.reconstruction)


@pytest.mark.parametrize("options", [{}, {"tiles": 4, "batch_size": None}], ids=["network", "tiles"])
@pytest.mark.parametrize("dimensions", SHAPES)
def test_a_file_holds_the_function_and_its_units(tmp_path, dimensions, options):
    result = fitted(dimensions, spacing=2.5, origin=1.0, **options)
    result.save(tmp_path / "model.safetensors")
    again = coordfit.load(tmp_path / "model.safetensors")
    assert again.picture == result.model.picture
    points = np.random.default_rng(0).uniform(1.0, 10.0, (20, dimensions))
    if options:  # kept in 16 bits
        result = coordfit.fit_array(values_of(dimensions), NAMES[-dimensions:], **SMALL | options, spacing=2.5)
    np.testing.assert_array_equal(again.render(), result.model.render())
    assert again(points).shape == (20,)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shape": [7, 9]}, "names, origins and spacings"),
        ({"shape": [7, -9, 8]}, "shape is"),
        ({"shape": [2, 2, 2, 2, 2]}, "shape is"),
        ({"channels": 10**10}, "shape is"),
        ({"frame": None}, "frame is missing"),
        ({"frame": {"spacing": [0.0, 1.0, 1.0]}}, "not 0"),
        ({"frame": {"low": [5.0], "high": [1.0]}}, "high above low"),
        ({"frame": {"low": [5.0, 5.0]}}, "1 or 1 lowest"),
        ({"frame": {"dtype": "object"}}, "real numbers"),
        ({"frame": {"dtype": "nonsense"}}, "metadata cannot be used"),
        ({"frame": {"origin": ["a", 1.0, 1.0]}}, "metadata cannot be used"),
    ],
)
def test_a_file_of_nonsense_is_refused(tmp_path, change, match):
    file = tmp_path / "model.safetensors"
    fitted(3).save(file)
    tensors, metadata = load_tensors(file, lambda *_: None)
    metadata = json.loads(json.dumps(metadata))
    frame = metadata["signal"]["frame"]
    metadata["signal"] |= change
    if isinstance(change.get("frame"), dict):
        metadata["signal"]["frame"] = frame | change["frame"]
    save_tensors(file, tensors, metadata)
    with pytest.raises(ModelFileError, match=match):
        coordfit.load(file)


# -- points ----------------------------------------------------------------------------------------------


def test_points_in_any_units_give_a_function_in_those():
    rng = np.random.default_rng(0)
    points = rng.uniform([-3.0, 1e5], [2.0, 3e5], (600, 2))

    def truth(p):
        return 50.0 * np.sin(p[..., 0]) + 1e-4 * p[..., 1]

    result = coordfit.fit_points(points, truth(points), **SMALL | {"steps": 800, "hidden_size": 32})
    inside = rng.uniform([-2.5, 1.2e5], [1.5, 2.8e5], (200, 2))
    assert np.sqrt(np.mean(np.square(result.model(inside) - truth(inside)))) < 2.0
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    along, across = np.linspace(left, right, 5), np.linspace(bottom, top, 4)
    middles = np.stack(np.meshgrid((along[1:] + along[:-1]) / 2, (across[1:] + across[:-1]) / 2), axis=-1)
    np.testing.assert_allclose(result.render(shape=(3, 4)), result.model(middles), rtol=1e-4, atol=1e-2)


def test_the_order_of_points_and_an_unknown_value_do_not_matter():
    rng = np.random.default_rng(1)
    points, values = rng.random((80, 3)), rng.random((80, 2))
    options = SMALL | {"batch_size": None, "dtype": "float64", "sigma": 1.0}
    first = coordfit.fit_points(points, values, **options)
    order = rng.permutation(80)
    shuffled = coordfit.fit_points(points[order], values[order], **options)
    np.testing.assert_allclose(first.model(points), shuffled.model(points), rtol=0, atol=1e-7)
    values[7] = np.nan
    unknown = coordfit.fit_points(points, values, **options)
    assert np.isfinite(unknown.model(points)).all()
    assert unknown.metrics["psnr_held_out"] is None


# -- sigma -----------------------------------------------------------------------------------------------


def test_each_coordinate_may_have_its_own_sigma():
    result = fitted(3, sigma=(9.0, 1e-3, 3.0), num_frequencies=400)
    spread = result.model.encoder.state()["B"].std(axis=0)
    np.testing.assert_allclose(spread, [9.0, 1e-3, 3.0], rtol=0.15)
    assert "sigma 9x0.001x3" in result.model.title
    with pytest.raises(ConfigError, match="sigma has 2 numbers, and points have 3 coordinates"):
        fitted(3, sigma=(1.0, 2.0))


@pytest.mark.slow
def test_sigma_follows_the_samples_and_can_be_chosen():
    long, short = (coordfit.fit_array(np.arange(n) % 7.0, **SMALL).config.sigma for n in (400, 100))
    assert long == 4 * short
    z, y, x = np.mgrid[:20, :24, :28] / 28.0
    values = np.sin(2 * np.pi * 9 * z) + 0.3 * np.sin(2 * np.pi * (x + y))  # fast along z alone
    known = np.random.default_rng(0).random(values.shape) < 0.5
    options = SMALL | {"steps": 1500, "num_frequencies": 64, "hidden_size": 48, "batch_size": 512}
    chosen, given = (coordfit.fit_array(values, known=known, sigma=s, **options) for s in ("auto", None))
    sigma_x, sigma_y, sigma_z = chosen.config.sigma
    assert sigma_z > 2 * max(sigma_x, sigma_y)
    assert chosen.metrics["psnr_held_out"] > given.metrics["psnr_held_out"] + 3.0
    sound = coordfit.fit_array(np.sin(np.arange(900) / 2.0), sigma="auto", **SMALL)
    assert isinstance(sound.config.sigma, float)


@pytest.mark.parametrize(
    ("encoding", "optimizer"),
    [
        *((encoding, "adam") for encoding in ("none", "basic", "positional", "gaussian", "grid", "pyramid")),
        *(
            (encoding, optimizer)
            for optimizer in ("sgd", "muon", "gauss-newton")
            for encoding in ("gaussian", "grid")
        ),
    ],
)
def test_every_encoding_and_optimizer_learns_a_volume(encoding, optimizer):
    z, y, x = np.mgrid[:6, :7, :8] / 8.0
    values = np.sin(5 * x + 3 * y) + np.cos(4 * z)
    options = SMALL | {
        "sigma": 1.0,
        "encoding": encoding,
        "optimizer": optimizer,
        "steps": 40,
        "batch_size": None,
    }
    if optimizer == "sgd":
        options |= {"learning_rate": 0.5, "momentum": 0.9}
    if optimizer == "gauss-newton" and encoding in ("grid", "pyramid"):
        with pytest.raises(ConfigError, match="gauss-newton trains no encoding"):
            coordfit.fit_array(values, **options)
        return
    history = coordfit.fit_array(values, output_activation="identity", **options).history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "axes", "options", "match"),
    [
        (np.zeros((3, 4, 5)), "y", {}, "axes must name each axis"),
        (np.zeros((3, 4, 5)), "yy", {}, "different names"),
        (np.zeros((3, 4)), "z,y,x", {}, "the array has 2 axes, and z, y, x are named"),
        (np.zeros((1, 2, 3, 4, 5)), "abdez", {}, "1 to 4 axes"),
        (np.zeros((0, 3)), None, {}, "has no values"),
        (np.array(["a"]), None, {}, "real numbers"),
        (np.array([1j]), None, {}, "real numbers"),
        (np.array([1.0, np.inf]), None, {}, "infinities"),
        (np.array([np.nan, np.nan]), None, {}, "no value is known"),
        (np.zeros(4), None, {"known": np.zeros(4, bool)}, "no value is known"),
        (np.zeros(4), None, {"known": np.ones(5, bool)}, r"boolean array \(4,\)"),
        (np.zeros(4), None, {"spacing": 0.0}, "spacing must not be 0"),
        (np.zeros((4, 4)), None, {"spacing": (1.0, 2.0, 3.0)}, "one for each of y, x"),
        (np.zeros((4, 4)), None, {"origin": {"z": 1.0}}, "origin names z"),
        (np.zeros(4), None, {"value_range": "rows"}, "value_range must be"),
        (np.zeros(4), None, {"value_range": (2.0, 1.0)}, "not finite and ascending"),
        (np.array([-1e308, 1e308]), None, {}, "not finite and ascending"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(values, axes, options, match):
    with pytest.raises(SignalError, match=match):
        coordfit.fit_array(values, axes, **SMALL, **options)


def test_what_is_for_pictures_is_refused():
    with pytest.raises(ConfigError, match="size is for pictures"):
        coordfit.fit_array(np.zeros(4), size=3)
    with pytest.raises(ConfigError, match="compact"):
        coordfit.fit_array(np.zeros(4), recipe="compact")


@pytest.mark.parametrize(
    ("coordinates", "values", "match"),
    [
        (np.zeros((3, 5)), np.zeros(3), "D up to 4"),
        (np.zeros((3, 2)), np.zeros(4), r"N = 3"),
        (np.array([[np.nan, 0.0]]), np.zeros(1), "must be finite"),
        (np.zeros((0, 2)), np.zeros(0), "shape"),
    ],
)
def test_points_that_cannot_be_used_are_refused(coordinates, values, match):
    with pytest.raises(SignalError, match=match):
        coordfit.fit_points(coordinates, values)


def test_a_constant_is_a_function_too():
    result = coordfit.fit_array(np.full((5, 6), 3.5), **SMALL | {"steps": 300})
    np.testing.assert_allclose(result.reconstruction, 3.5, atol=0.1)


# -- xarray ----------------------------------------------------------------------------------------------------


def test_a_dataarray_brings_its_axes_and_gets_them_back():
    xarray = pytest.importorskip("xarray")
    latitude, level = np.linspace(60.0, -60.0, 12), np.arange(17) * 0.5 + 2.0
    given = xarray.DataArray(values_of(2), {"latitude": latitude, "level": level}, ("latitude", "level"))
    result = coordfit.fit_array(given, **SMALL)
    assert result.model.picture.frame.axes == ("latitude", "level")
    made = result.to_xarray()
    xarray.testing.assert_allclose(made, xarray.full_like(given, 0.0) + result.reconstruction)
    at = result.model([[4.0, float(latitude[3])]])
    low, high = values_of(2).min(), values_of(2).max()
    assert np.clip(at, low, high) == pytest.approx(float(made.sel(level=4.0).isel(latitude=3)), abs=0.02)
    finer = result.model.to_xarray((24, 34), crop=(2, 4, 6, 8))
    points = np.stack(np.meshgrid(finer["level"], finer["latitude"]), axis=-1)
    np.testing.assert_allclose(np.clip(result.model(points), low, high), finer, rtol=0, atol=0.02)
    with pytest.raises(SignalError, match=r"along level are not at even distances; use coordfit\.fit_points"):
        coordfit.fit_array(given.assign_coords(level=level**2))


def test_a_mask_counts_for_a_file_of_an_array_too(tmp_path):
    values = values_of(3)
    values[1, 2, 3] = np.nan
    np.save(tmp_path / "a.npy", values)
    known = np.random.default_rng(0).random(values.shape) < 0.6
    of_file = coordfit.fit(tmp_path / "a.npy", known=known, **SMALL)
    np.testing.assert_array_equal(of_file.known, known & np.isfinite(values))
    assert of_file.metrics["psnr_held_out"] is not None
