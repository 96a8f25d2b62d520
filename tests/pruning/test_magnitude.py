"""Thresholds by magnitude."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfqreg.pruning.magnitude import exact_threshold, histogram_threshold

weights = arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-100, 100, width=32))


def test_exact_threshold_by_hand():
    w = [np.float32([[3, -1], [2, 4]]), np.float32([-5])]
    assert [exact_threshold(w, share) for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)] == [
        -1,
        1,
        2,
        3,
        4,
        5,
    ]


def test_nothing_is_pruned_at_share_0_not_even_zeros():
    w = np.zeros(4, np.float32)
    assert not np.any(np.abs(w) <= exact_threshold([w], 0.0))


@settings(deadline=None)
@given(parts=st.lists(weights, min_size=1, max_size=3), share=st.floats(0, 1))
def test_exact_share_up_to_ties(parts, share):
    w = np.abs(np.concatenate(parts))
    threshold, count = exact_threshold(parts, share), round(share * w.size)
    assert np.sum(w <= threshold) >= count
    assert np.sum(w < threshold) < max(count, 1)


@settings(deadline=None)
@given(parts=st.lists(weights, min_size=1, max_size=3), share=st.floats(0, 1))
def test_histogram_is_within_a_cell_of_the_quantile(parts, share):
    w = np.sort(np.abs(np.concatenate(parts)))
    cell = w[-1] / 64 * (1 + 1e-5)
    threshold = histogram_threshold(parts, share, bins=64)
    count = share * w.size
    assert 0 <= threshold <= w[-1]
    assert np.sum(w <= threshold + cell) >= min(count, w.size)
    assert np.sum(w < threshold - cell) <= count


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_histogram_of_zeros(share):
    assert histogram_threshold([np.zeros((3, 3), np.float32)], share) == 0.0


def test_histogram_of_many_weights():
    w = np.random.default_rng(0).normal(size=(3, 20000)).astype(np.float32)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert np.mean(np.abs(w) <= histogram_threshold(list(w), share)) == pytest.approx(
            share, abs=1e-3
        )
