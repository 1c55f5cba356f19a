"""The order of mini-batches is a shuffle: every pixel once, evenly, and the same on every machine."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordfit.pixels.batch_order import BatchOrder, permuted

KNOWN_SIZES = [1, 2, 3, 4, 5, 64, 65, 10_000, 16_384, 16_385, 196_611]
words = st.integers(0, 2**32 - 1)

# Of (n, seed, epoch): where the indices 0, 1, 2, n // 2 and n - 1 go. Any other implementation has to agree.
PINNED = {
    (1, 0, 0): [0],
    (2, 0, 0): [1, 0],
    (2, 1, 0): [0, 1],
    (3, 0, 0): [1, 2, 0, 2, 0],
    (3, 1, 0): [2, 1, 0, 1, 0],
    (5, 0xDEADBEEF, 12345): [4, 3, 2, 2, 1],
    (64, 0, 0): [34, 38, 58, 0, 39],
    (64, 1, 0): [14, 31, 4, 6, 12],
    (64, 0, 1): [34, 55, 17, 51, 31],
    (1000, 0, 0): [147, 640, 584, 734, 463],
    (1000, 0, 1): [463, 506, 567, 243, 95],
    (16_384, 0, 0): [7916, 8508, 11178, 10804, 11841],
    (16_384, 1, 0): [4157, 1094, 14017, 14276, 5839],
    (196_611, 0, 0): [136546, 56063, 181793, 173379, 39604],
    (196_611, 0xDEADBEEF, 12345): [158634, 152774, 129495, 168114, 73348],
    (2**32 - 1, 0, 0): [3877393047, 1698108427, 264347122, 2946597147, 3351684997],
    (2**32 - 1, 0xDEADBEEF, 12345): [224103616, 2384964547, 457853386, 3111262928, 389980230],
}


def whole(n, seed=0, epoch=0):
    return permuted(np.arange(n), n, seed, epoch)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), words, words)
@example(1, 2**32 - 1, 2**32 - 1)
def test_an_epoch_holds_every_pixel_once(n, seed, epoch):
    np.testing.assert_array_equal(np.sort(whole(n, seed, epoch)), np.arange(n))


@pytest.mark.parametrize("n", KNOWN_SIZES)
def test_an_epoch_holds_every_pixel_once_at_known_sizes(n):
    np.testing.assert_array_equal(np.bincount(whole(n, seed=3, epoch=7), minlength=n), np.ones(n))


@pytest.mark.parametrize(("case", "expected"), PINNED.items(), ids=str)
def test_the_order_never_changes(case, expected):
    n, seed, epoch = case
    index = np.array([i for i in (0, 1, 2, n // 2, n - 1) if i < n])
    if n <= 2:
        index = np.arange(n)
    assert permuted(index, n, seed, epoch).tolist() == expected


def mixed(x):
    """The 32-bit finalizer, on Python's integers."""
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def permuted_plainly(index, n, seed, epoch):
    """Eight Feistel rounds on a domain of 4^k >= n, walked until the value is below n."""
    side = 2
    while side * side < n:
        side *= 2
    key = mixed(seed ^ mixed((epoch + 0x9E3779B9) % 2**32))
    while True:
        left, right = divmod(index, side)
        for k in range(8):
            left, right = right, (left ^ mixed(right ^ key ^ (k * 0x9E3779B1 % 2**32))) % side
        index = left * side + right
        if index < n:
            return index


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 2**32 - 1), words, words)
def test_the_order_is_that_of_the_plain_algorithm(data, n, seed, epoch):
    index = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    expected = [permuted_plainly(i, n, seed, epoch) for i in index]
    assert permuted(np.array(index), n, seed, epoch).tolist() == expected


def test_the_caller_s_indices_are_left_alone_and_may_have_any_shape():
    index = np.arange(12, dtype=np.uint32).reshape(3, 4)
    order = permuted(index, 12, 0, 0)
    np.testing.assert_array_equal(order.ravel(), whole(12))
    np.testing.assert_array_equal(index.ravel(), np.arange(12))


def chi_square(counts, expected):
    """How many standard deviations the statistic is from its mean, given its degrees of freedom."""
    freedom = counts.size - 1
    return (np.sum((counts - expected) ** 2) / expected - freedom) / np.sqrt(2 * freedom)


def test_over_epochs_every_pixel_comes_at_every_place_alike():
    n, epochs = 48, 4000
    counts = np.zeros((n, n))
    for epoch in range(epochs):
        counts[np.arange(n), whole(n, seed=11, epoch=epoch)] += 1
    # Rows and columns sum to a constant: (n - 1)^2 degrees of freedom.
    statistic = np.sum((counts - epochs / n) ** 2) / (epochs / n)
    freedom = (n - 1) ** 2
    assert abs(statistic - freedom) / np.sqrt(2 * freedom) < 4


def test_the_first_batch_is_spread_over_the_picture():
    n = 16_384
    first = np.concatenate([whole(n, seed=2, epoch=e)[:128] for e in range(40)])
    counts = np.bincount(first // 64, minlength=256)
    assert abs(chi_square(counts, first.size / 256)) < 4


def test_neighbours_do_not_stay_neighbours():
    n = 10_000
    steps = np.concatenate([np.diff(whole(n, seed=s).astype(np.int64)) % n for s in range(5)])
    counts = np.bincount(steps // 100, minlength=100)
    assert abs(chi_square(counts, steps.size / 100)) < 4


def test_seeds_and_epochs_give_unrelated_orders():
    n = 10_000
    orders = [whole(n, seed, epoch) for seed in (0, 1, 2**31) for epoch in (0, 1, 2)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.count_nonzero(a == b) < 10  # one on the average
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_batches_are_cut_from_the_epochs_in_a_row(data):
    n = data.draw(st.integers(1, 300))
    batch_size = data.draw(st.integers(1, n))
    seed = data.draw(words)
    naive = np.concatenate([whole(n, seed, epoch) for epoch in range(4)])
    order = BatchOrder(n, batch_size, seed)
    for t in data.draw(st.permutations(range(len(naive) // batch_size))):
        expected = naive[t * batch_size : (t + 1) * batch_size]
        np.testing.assert_array_equal(order.batch(t), expected)


@pytest.mark.parametrize(("n", "batch_size"), [(40_000, 1024), (40_000, 40_000), (70_001, 33_000), (5000, 7)])
def test_batches_far_out_and_across_windows(n, batch_size):
    far = 10**6
    order = BatchOrder(n, batch_size, seed=5)
    for t in (0, 1, 31, 32, 33, 40, 32, far, far + 1, 2):
        positions = t * batch_size + np.arange(batch_size)
        expected = [
            permuted(positions[positions // n == epoch] % n, n, 5, int(epoch))
            for epoch in np.unique(positions // n)
        ]
        np.testing.assert_array_equal(order.batch(t), np.concatenate(expected))


def test_batches_index_any_array():
    batch = BatchOrder(100, 30, seed=0).batch(2)
    assert batch.dtype == np.int64
    assert batch.shape == (30,)
