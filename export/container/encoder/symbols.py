"""A common alphabet in which the codes of all tensors are compared, whatever their width.

Codes up to 16 in magnitude are symbols of their own; above, there are four symbols per doubling.
Tables are cut from the codes themselves: the symbols only decide which weights are alike.
"""

from functools import lru_cache

import numpy as np

# Magnitudes up to it are symbols of their own: all codes of 5 bits and less.
EXACT = 16
# One more than the largest magnitude of an 8-bit code.
LARGEST = 128
# Above EXACT, symbols get wider with the codes, which are ever rarer there.
STEPS_PER_OCTAVE = 4


@lru_cache
def symbol_table() -> np.ndarray:
    """Returns the symbol of each code from -128 to 127, uint8 (256,)."""
    codes = np.arange(-LARGEST, LARGEST)
    octaves = np.log2(np.maximum(np.abs(codes), EXACT) / EXACT)
    ranks = np.minimum(np.abs(codes), EXACT) + np.ceil(STEPS_PER_OCTAVE * octaves - 1e-9).astype(
        np.int64
    )
    return (ranks.max() + np.sign(codes) * ranks).astype(np.uint8)


def symbol_count() -> int:
    """Returns the size of the alphabet."""
    return int(symbol_table().max()) + 1


def raw_bits(codes: np.ndarray) -> float:
    """Returns about the bits that tell apart the codes, -128 to 127, that share a symbol.

    >>> round(raw_bits(np.array([-3, 16, 17, 64])), 2)
    5.04
    """
    members = np.bincount(symbol_table(), minlength=symbol_count())
    return float(np.log2(members[symbol_table()[codes.astype(np.int64) + LARGEST]]).sum())


def wide_symbols(codes: np.ndarray) -> np.ndarray:
    """Returns the symbols of any 32-bit codes (n,), int64 below 256.

    A symbol is the sign of a code, its power of two and the quarter of that.
    """
    sizes = np.abs(codes.astype(np.int64))
    octaves = np.frexp(sizes.astype(np.float64))[1]
    quarters = (sizes << 3 >> np.maximum(octaves, 0)) & 3
    return np.where(sizes == 0, 0, 4 * octaves + quarters - 3 + 128 * (codes < 0)) & 255


def entropy_bits(histograms: np.ndarray) -> np.ndarray:
    """Returns the zero-order entropy of each histogram (..., symbols), in bits for all its codes.

    >>> entropy_bits(np.array([[4.0, 4.0], [8.0, 0.0]])).tolist()
    [8.0, 0.0]
    """
    totals = histograms.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(histograms > 0, histograms * np.log2(histograms), 0).sum(-1)
        return np.where(totals > 0, totals * np.log2(totals), 0) - parts
