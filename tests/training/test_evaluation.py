"""Figures on the way: of which pixels and steps they are, and how a sample of pixels is drawn."""

import numpy as np
import pytest

from coordfit.backends import get_backend
from coordfit.config import make_config
from coordfit.images import bundled_picture, load_picture
from coordfit.network.losses import MAE
from coordfit.training.evaluation import ErrorSums, Evaluator
from coordfit.training.job import Job
from coordfit.training.trainer import Trainer

SMALL = {"steps": 1, "num_frequencies": 8, "hidden_size": 12, "depth": 3, "dtype": "float64"}


def member_of(picture, known=None, **options):
    backend = get_backend("numpy", threads=1)
    return Trainer([Job(picture, make_config(SMALL | options), known)], backend).member


def test_losses_are_of_training_pixels_as_predicted_and_errors_of_all_but_unknown_ones_as_shown():
    target, colours = np.array([[0.0], [1.0], [0.5], [0.5]]), np.array([[-0.25], [0.5], [1.5], [np.nan]])
    train, held_out = np.array([True, True, False, False]), np.array([False, False, True, False])
    whole = ErrorSums(np, MAE(), target, train, held_out)
    whole.add(colours)
    parts = ErrorSums(np, MAE(), target, train, held_out)
    for part in (slice(0, 1), slice(1, 4)):
        parts.add(colours[part])
    for sums in (whole, parts):
        np.testing.assert_allclose(sums.total, [0.25 + 0.5, 0.0 + 0.25, 0.25], rtol=1e-15)


def test_figures_are_means_over_pixels_and_channels():
    member = member_of(bundled_picture(32), train_on="every-second")
    figures, drawn = member.evaluate(), member.model.render()
    squares = np.square(drawn - bundled_picture(32).pixels, dtype=np.float64)
    seen = member.train.reshape(32, 32)
    assert figures.loss == pytest.approx(squares[seen].mean())
    for found, own in (
        (figures.psnr_train, seen),
        (figures.psnr_held_out, ~seen),
        (figures.psnr, seen | ~seen),
    ):
        assert found == pytest.approx(-10 * np.log10(squares[own].mean()))


@pytest.mark.parametrize("is_known", [True, False])
def test_a_sample_holds_the_one_pixel_that_is_known_or_hidden(is_known):
    known = np.full((32, 32), not is_known)
    known[7, 5] = is_known
    member = member_of(bundled_picture(32), known)
    evaluate = Evaluator(member.model, member.loss, member.target, member.train, sample=10)
    assert (len(evaluate.train), np.sum(evaluate.train == is_known)) == (11, 1)
    figures = evaluate()
    assert np.isfinite([figures.psnr_train, figures.psnr_held_out, figures.loss]).all()


def test_a_sample_tells_the_figures_of_a_large_picture_to_a_sixteenth_of_a_decibel():
    large = load_picture(np.tile(bundled_picture().pixels, (4, 4, 1)))
    for seed in (0, 2):
        member = member_of(large, seed=seed)
        assert len(member.evaluate.target) < large.width * large.height / 3
        assert member.evaluate().psnr == pytest.approx(member.evaluate_all().psnr, abs=1 / 16)


def test_a_run_that_goes_on_drops_the_rows_of_steps_that_it_takes_again():
    """A run may be killed after rows that its last checkpoint does not have."""
    config = make_config(SMALL, {"steps": 6, "evaluate_every": 2})
    job, backend = Job(bundled_picture(32), config), get_backend("numpy", threads=1)
    [whole] = Trainer([job], backend).run()
    [stopped] = Trainer([job], backend).run(lambda progress: progress.step == 2)
    stopped.state.history = whole.history
    [resumed] = Trainer([job], backend, stopped.state).run()
    rows = [[row | {"seconds": 0} for row in result.history] for result in (resumed, whole)]
    assert rows[0] == rows[1]
