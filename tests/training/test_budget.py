"""Schedules end with the budget, whichever was given."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coordfit
from coordfit.config import DEFAULT_STEPS, make_config
from coordfit.images import bundled_picture
from coordfit.training.budget import Budget
from coordfit.training.job import Job
from coordfit.training.member import Member
from coordfit.training.trainer import Trainer, fit_together

SMALL = {"num_frequencies": 8, "hidden_size": 16, "depth": 3, "batch_size": 64}


@pytest.fixture(scope="module")
def cat():
    return bundled_picture(32)


def budget(pixels=1000, **options):
    return Budget(make_config(options), pixels)


@pytest.mark.parametrize("others", [{}, {"seconds": 1.0}, {"target_psnr": 40.0}], ids=str)
def test_steps_are_one_schedule_whatever_else_may_end_the_run(others):
    own = budget(steps=70, **others)
    own.correct(10, 10, 1.0, 2.0)
    assert own.steps == 70
    assert {own.schedule_of(step) for step in range(71)} == {(0, 70)}
    assert budget(epochs=3, batch_size=100, **others).schedule_of(5) == (0, 30)


def test_without_a_budget_there_is_the_default():
    assert budget().steps == DEFAULT_STEPS
    assert budget().schedule_of(7) == (0, DEFAULT_STEPS)
    steps = [budget(pixels).steps for pixels in (128**2, 2 * 128**2, 256**2, 10**7)]
    assert steps == [DEFAULT_STEPS, 2 * DEFAULT_STEPS, 4 * DEFAULT_STEPS, 4 * DEFAULT_STEPS]


def test_towards_a_psnr_each_schedule_is_twice_as_long_as_the_one_before():
    own, first = budget(target_psnr=40.0), DEFAULT_STEPS // 4
    found = sorted({own.schedule_of(step) for step in range(own.steps)})
    assert found == [(0, first), (first, 2 * first), (3 * first, 4 * first), (7 * first, 8 * first)]
    assert sum(found[-1]) == own.steps


@given(st.integers(1, 10**5), st.floats(1e-3, 1e3), st.floats(0.0, 1e3), st.booleans())
def test_seconds_end_the_schedule_where_the_rate_says(steps, taken, left, target):
    own = budget(seconds=10.0, **({"target_psnr": 40.0} if target else {}))
    own.correct(steps, steps, taken, left)
    start, length = own.schedule_of(steps)
    assert start <= steps < start + length
    end = max(steps + 1, steps + int(left * steps / taken))
    assert start + length == end or (target and start + length < end)


def test_a_run_of_seconds_ends_with_the_end_of_its_schedule(cat):
    result = coordfit.fit(cat.pixels, device="numpy", threads=1, seconds=1.0, **SMALL)
    assert result.stopped == "seconds"
    rates = [row["learning_rate"] for row in result.history]
    assert rates[0] == max(rates)
    assert rates[-1] < 0.02 * rates[0]
    assert len(result.history) > 5


def test_seconds_of_earlier_runs_count(cat):
    job, backend = Job(cat, make_config(SMALL, {"seconds": 1.0})), coordfit.get_backend("numpy", threads=1)
    state = Trainer([job], backend).state()
    state.seconds = 2.0
    [result] = Trainer([job], backend, state).run()
    assert (result.stopped, result.metrics["steps"]) == ("seconds", 0)


def test_networks_together_share_the_seconds(cat):
    jobs = [Job(cat, make_config(SMALL, {"seconds": 0.6, "seed": seed})) for seed in (0, 1)]
    began = time.perf_counter()
    results = fit_together(jobs, coordfit.get_backend("numpy", threads=1))
    assert time.perf_counter() - began < 5
    for result in results:
        assert result.stopped == "seconds"
        assert result.history[-1]["learning_rate"] < 0.1 * result.history[0]["learning_rate"]


def test_a_target_that_is_missed_is_tried_again_with_the_rate_at_its_start(cat):
    config = make_config(SMALL, {"target_psnr": 100.0})
    member = Member(coordfit.get_backend("numpy"), cat, config)
    first = DEFAULT_STEPS // 4
    assert member.learning_rate(first - 1) < 1e-3 * config.learning_rate
    assert member.learning_rate(first) == config.learning_rate
    stops = [0]
    while stops[-1] < member.steps:
        stops.append(member.next_evaluation(stops[-1]))
    assert {first, 3 * first, 7 * first, 15 * first} <= set(stops)
    assert stops[-1] == member.steps
    assert 40 <= len(stops) <= 110
    assert np.all(np.diff(stops) > 0)


@pytest.mark.parametrize(
    ("options", "is_estimate"),
    [
        ({"steps": 4}, False),
        ({"steps": 1}, False),
        ({"seconds": 0.2}, True),
        ({"target_psnr": 10.0}, True),
        ({"steps": 4, "target_psnr": 90.0}, False),
        ({"recipe": "compact", "steps": 4}, False),
        ({"recipe": "compact", "seconds": 1.0}, True),
    ],
    ids=str,
)
def test_a_callback_is_told_whether_the_end_is_an_estimate(cat, options, is_estimate):
    seen = []
    size = {} if "recipe" in options else SMALL
    coordfit.fit(cat, device="numpy", threads=1, callback=lambda p: seen.append(p) and False, **size, **options)
    assert {progress.is_estimate for progress in seen} == {is_estimate}
    assert min(progress.steps for progress in seen) >= 1
    if not is_estimate:
        assert {progress.steps for progress in seen} == {options["steps"]}
