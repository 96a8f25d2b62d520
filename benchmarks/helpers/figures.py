"""Figures that several benchmarks report."""

from typing import Any

import numpy as np


def accuracy_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of samples whose largest score is the label's.

    Args:
        scores: (samples, classes).
        labels: (samples,).
    """
    return float((scores.argmax(1) == labels).mean())


def entropy_bytes(codes: np.ndarray) -> float:
    """Returns the zero-order entropy of codes: what a perfect coder of single codes would take."""
    counts = np.unique(codes, return_counts=True)[1]
    return float(counts @ np.log2(codes.size / counts)) / 8


def exactness(report: Any) -> dict[str, int]:
    """Returns the elements that `tfqreg.export.verify` compared, and how many differed."""
    return {
        "mismatched_elements": sum(r.mismatched_elements for r in report.runtimes.values()),
        "compared_elements": sum(r.compared_elements for r in report.runtimes.values()),
    }
