"""Thresholds that prune a chosen fraction of weights by magnitude."""

from collections.abc import Sequence

import numpy as np


def histogram_threshold(arrays: Sequence[np.ndarray], fraction: float, bins: int = 8192) -> float:
    """Returns about the quantile of |w| over all arrays together, in one pass without sorting.

    Args:
        arrays: weights, of any shapes.
        fraction: of the weights to lie at or below the threshold, 0 to 1.
        bins: cells of the histogram; the result is off by one cell's width, max|w| / bins, at most.
            8192 by default.

    Example:
        >>> round(histogram_threshold([np.linspace(-1, 1, 1001)], 0.25), 3)
        0.25
    """
    largest = max(float(np.abs(w).max(initial=0.0)) for w in arrays)
    total = sum(w.size for w in arrays)
    if fraction <= 0.0 or largest == 0.0 or total == 0:
        return 0.0
    counts = sum(np.histogram(np.abs(w), bins, (0.0, largest))[0] for w in arrays)
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    cell = int(np.searchsorted(cumulative, fraction * total, "left"))
    in_cell = max(cumulative[cell] - cumulative[cell - 1], 1)
    inside = (fraction * total - cumulative[cell - 1]) / in_cell
    return largest * (cell - 1 + inside) / bins


def exact_threshold(arrays: Sequence[np.ndarray], fraction: float) -> float:
    """Returns the smallest |w| with at least a fraction of all weights at or below it.

    Args:
        arrays: weights, of any shapes.
        fraction: of the weights to prune, 0 to 1; for 0 the threshold is -1.

    Example:
        >>> exact_threshold([np.float32([3, -1]), np.float32([2, 4])], 0.5)
        2.0
    """
    magnitudes = np.concatenate([np.abs(w).ravel() for w in arrays])
    count = round(fraction * magnitudes.size)
    return -1.0 if count == 0 else float(np.partition(magnitudes, count - 1)[count - 1])
