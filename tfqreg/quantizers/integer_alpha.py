"""Whole-number coordinates: what puts all levels of an output channel on one integer grid."""

import numpy as np

LARGEST_CODE = 127  # of int8 with a symmetric range


def integer_units(alpha: np.ndarray, tolerance: float = 0.02) -> np.ndarray:
    r"""Returns each channel's unit u, which makes its coordinates whole: `alpha ~ u a`.

    The whole numbers a of a group add up to at most 127. Of the grids with `max_g sum_i a_i ~ 1 ..
    127`, each with its least-squares unit `sum alpha a / sum a^2`, the coarsest serves whose error
    is within the tolerance: small codes take fewer bits in the container. A single coordinate per
    channel is exact with a = 1.

    Args:
        alpha: coordinates (channels, parts, bases), 0 where there is none.
        tolerance: root mean square error over that of alpha itself; 0.02 by default,
            which leaves 0.04 % of their squares.

    Returns:
        float32 (channels,), 1 for a channel without coordinates.

    Example:
        >>> integer_units(np.float32([[[0.2, 0.4]], [[0.0, 0.7]], [[0.0, 0.0]]]))
        array([0.2, 0.7, 1. ], dtype=float32)
    """
    units = np.ones(len(alpha))
    for channel, values in enumerate(alpha.astype(np.float64)):
        if not values.any():
            continue
        units[channel] = _unit(values, tolerance)
    return units.astype(np.float32)


def _unit(alpha: np.ndarray, tolerance: float) -> float:
    first = np.abs(alpha).sum(-1).max() / np.arange(1, LARGEST_CODE + 1)
    whole = np.rint(alpha[None] / first[:, None, None])
    square = np.square(whole).sum((1, 2))
    unit = np.where(square > 0, (alpha * whole).sum((1, 2)) / np.maximum(square, 1.0), first)
    whole = np.rint(alpha[None] / unit[:, None, None])
    error = np.square(alpha - unit[:, None, None] * whole).sum((1, 2))
    error[np.abs(whole).sum(-1).max(-1) > LARGEST_CODE] = np.inf
    good = np.flatnonzero(error <= tolerance**2 * np.square(alpha).sum())
    return float(unit[good[0] if len(good) else np.argmin(error)])
