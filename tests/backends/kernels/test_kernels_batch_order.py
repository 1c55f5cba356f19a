"""The GPU draws the batches of `coordfit.pixels.batch_order`, bit for bit."""

import numpy as np
import pytest

from coordfit.pixels.batch_order import BatchOrder


def batches(launch, memory, n, batch_size, seeds, step, offset=0):
    out = memory.room((len(seeds), batch_size), np.int64)
    seeds = memory.put(np.array(seeds, np.uint32))
    step = memory.put(np.array([step - offset]))
    grid = (2, len(seeds))
    launch("batch_order", (), grid, step, offset, seeds, out, batch_size, n, batch_size, block=32)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 31, 64, 65, 257, 10_000, 16_384, 16_385, 196_611])
def test_batches_are_those_of_the_cpu(launch, memory, n):
    seeds, batch_size = [0, 1, 2**32 - 1], min(n, 257)
    for step in (0, 1, 5, 10_001):
        expected = [BatchOrder(n, batch_size, seed).batch(step) for seed in seeds]
        np.testing.assert_array_equal(batches(launch, memory, n, batch_size, seeds, step), expected)


@pytest.mark.parametrize("n", [2**31, 2**31 + 1, 2**32 - 1])
def test_batches_of_the_largest_pictures(launch, memory, n):
    expected = [BatchOrder(n, 33, 7).batch(2**28)]
    np.testing.assert_array_equal(batches(launch, memory, n, 33, [7], 2**28), expected)


def test_epochs_wrap_at_32_bits(launch, memory):
    step = 2**32 + 3  # of batches that are an epoch each
    expected = [BatchOrder(5, 5, 3).batch(step)]
    np.testing.assert_array_equal(batches(launch, memory, 5, 5, [3], step), expected)


def test_an_epoch_holds_every_pixel_once(launch, memory):
    found = np.concatenate([batches(launch, memory, 1000, 100, [9], step) for step in range(20, 30)], axis=1)
    np.testing.assert_array_equal(np.sort(found[0]), np.arange(1000))


def test_a_counter_that_is_one_ahead_serves_too(launch, memory):
    np.testing.assert_array_equal(
        batches(launch, memory, 100, 32, [5], step=4, offset=-1), batches(launch, memory, 100, 32, [5], step=4)
    )
