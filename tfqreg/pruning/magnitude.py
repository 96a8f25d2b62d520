"""Thresholds that prune a chosen share of weights by magnitude."""

from collections.abc import Sequence

import numpy as np


def histogram_threshold(arrays: Sequence[np.ndarray], share: float, bins: int = 8192) -> float:
    """Returns about the `share`-quantile of |w| over all arrays together, in one pass and without
    sorting.

    Args:
        arrays: weights, of any shapes.
        share: share of the weights at or below the threshold, 0 to 1.
        bins: cells of the histogram; the result is off by one cell's width, max|w| / bins, at most.
    """
    largest = max(float(np.abs(w).max(initial=0.0)) for w in arrays)
    total = sum(w.size for w in arrays)
    if share <= 0.0 or largest == 0.0 or total == 0:
        return 0.0
    counts = sum(np.histogram(np.abs(w), bins, (0.0, largest))[0] for w in arrays)
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    cell = int(np.searchsorted(cumulative, share * total, "left"))
    inside = (share * total - cumulative[cell - 1]) / max(
        cumulative[cell] - cumulative[cell - 1], 1
    )
    return largest * (cell - 1 + inside) / bins


def exact_threshold(arrays: Sequence[np.ndarray], share: float) -> float:
    """Returns the smallest |w| with at least `share` of all weights at or below it; -1 for a share
    of 0.

    Args:
        arrays: weights, of any shapes.
        share: share of the weights to prune, 0 to 1.

    Example:
        >>> exact_threshold([np.float32([3, -1]), np.float32([2, 4])], 0.5)
        2.0
    """
    magnitudes = np.concatenate([np.abs(w).ravel() for w in arrays])
    count = round(share * magnitudes.size)
    return -1.0 if count == 0 else float(np.partition(magnitudes, count - 1)[count - 1])
