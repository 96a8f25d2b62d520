"""Classes of rows, each of which goes to the distribution that codes it in the fewest bits.

Expectation maximization in its hard form (classification EM; Celeux and Govaert, 1992), from a
fixed start, so that it is deterministic.
"""

import numpy as np

# Bounds the time; the loop ends before if no row moves any more.
ROUNDS = 12
# Added to each count, so that a symbol a class has not seen costs many bits, not infinitely many.
PRIOR = 0.02


def cluster(histograms: np.ndarray, classes: int) -> np.ndarray:
    """Returns a class for each of n rows, int64 (n,), the most frequent class being 0.

    Args:
        histograms: counts (n, m, symbols): a row may have m distributions, coded apart.
        classes: how many to make at most; unused ones are left out.

    >>> cluster(np.array([[[9.0, 1.0]], [[1.0, 9.0]], [[8.0, 2.0]], [[9.0, 1.0]]]), 2).tolist()
    [0, 1, 0, 0]
    """
    count = len(histograms)
    totals = np.maximum(histograms.sum((1, 2)), 1)
    commonest = int(histograms.sum((0, 1)).argmax())
    ranks = np.argsort(
        np.argsort(histograms[:, :, commonest].sum(1) / totals, kind="stable"), kind="stable"
    )
    labels = ranks * classes // count
    flat = histograms.reshape(count, -1)
    for _ in range(ROUNDS):
        new = (flat @ symbol_bits(histograms, labels, classes).T).argmin(1)
        if (new == labels).all():
            break
        labels = new
    return by_frequency(labels)


def symbol_bits(histograms: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the bits of each symbol in each class, (classes, m * symbols)."""
    sums = sum_by(histograms, labels, classes) + PRIOR
    return -np.log2(sums / sums.sum(-1, keepdims=True)).reshape(classes, -1)


def sum_by(histograms: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the sums of the rows with each label, (classes, ...)."""
    return np.tensordot(np.eye(classes)[:, labels], histograms, 1)


def by_frequency(labels: np.ndarray) -> np.ndarray:
    """Returns labels renumbered from 0 without gaps, the most frequent first.

    >>> by_frequency(np.array([5, 2, 2])).tolist()
    [1, 0, 0]
    """
    used, compact, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(used), np.int64)
    rank[order] = np.arange(len(used))
    return rank[compact]
