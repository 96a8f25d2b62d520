"""Choice of a table for given codes: the bins, then the frequencies, by the bytes each would cost.

A rare code alone in its bin costs more than its own bits: about 5 bits in the table, and at least 1
of the 2**bits states, which for sparse weights takes more from the zeros.
Merged with its neighbours it costs a raw bit or two each time it occurs. The best cut into bins of
1, 2, 4, ... codes is a shortest path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from ..format.table import MAX_BINS, MAX_BITS, MAX_EXTRA, MIN_BITS, Table, write_table
from .wide_bins import TABLE_BITS_PER_BIN, TABLE_BITS_PER_EMPTY_BIN, halve

# Both are tried for every table.
PROBABILITY_BITS = (MIN_BITS, MAX_BITS)


@dataclass(frozen=True)
class FittedTable:
    """A table, and the estimated bits of all codes with it, without the table itself."""

    table: Table
    data_bits: float


def fit_table(codes: np.ndarray) -> FittedTable:
    """Returns the cheapest table found for `codes`, int64 (n,), n >= 1.

    >>> fit_table(np.array([0] * 90 + [1] * 10)).table.extras
    (0, 0)
    """
    low, high = int(codes.min()), int(codes.max())
    low_bits = 0
    while ((high >> low_bits) - (low >> low_bits)) >= MAX_BINS:
        low_bits += 1
    first = (low >> low_bits) << low_bits
    found = fit_table_to_counts(first, np.bincount((codes - first) >> low_bits), low_bits)
    if low_bits:
        first, extras, counts = halve(np.sort(codes))
        if len(extras) <= MAX_BINS and max(extras) <= MAX_EXTRA:
            found = min(found, _fit_bins(first, extras, counts, PROBABILITY_BITS), key=_bits)
    return found


def fit_table_to_counts(
    first: int,
    histogram: np.ndarray,
    low_bits: int = 0,
    probability_bits: Sequence[int] = PROBABILITY_BITS,
) -> FittedTable:
    """Returns the cheapest table found for codes that were counted.

    Args:
        first: the smallest code.
        histogram: counts (n,), n at most 256, of the codes from `first + (i << low_bits)` on; the
            first and the last are not 0.
        low_bits: raw bits below those that were counted. Default 0.
        probability_bits: which to try. Default 11 and 12.
    """
    cuts = _cut(histogram, low_bits)
    extras = tuple(extra + low_bits for _, extra in cuts)
    counts = np.add.reduceat(histogram, [start for start, _ in cuts])
    return _fit_bins(first, extras, counts, probability_bits)


def _fit_bins(
    first: int, extras: tuple[int, ...], counts: np.ndarray, probability_bits: Sequence[int]
) -> FittedTable:
    raw_bits = float(counts @ np.array(extras))
    fits = [
        FittedTable(table, raw_bits + cost)
        for bits in probability_bits
        for table, cost in _candidates(first, extras, counts, bits)
    ]
    return min(fits, key=_bits)


def _bits(found: FittedTable) -> float:
    return found.data_bits + 8 * len(write_table(found.table))


def table_bits(table: Table, codes: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Returns the bits that codes take with a table.

    Args:
        table: with a bin for each code.
        codes: integers (n,).
        counts: how often each occurs. Default once.
    """
    bins = np.searchsorted(table.starts, codes, side="right") - 1
    bits = (
        table.bits - np.log2(np.maximum(table.frequencies, 1))[bins] + np.array(table.extras)[bins]
    )
    return float(bits.sum() if counts is None else counts @ bits)


def _cut(histogram: np.ndarray, low_bits: int) -> list[tuple[int, int]]:
    """Returns (start, log2 of the width) of the bins on the cheapest way through `histogram`."""
    size, total = len(histogram), int(histogram.sum())
    cumulated = np.concatenate([[0], np.cumsum(histogram)])
    widest = (size - 1).bit_length()
    costs = [_bin_costs(cumulated, total, extra, low_bits).tolist() for extra in range(widest + 1)]
    best = [0.0] * (size + 1)
    choice = [0] * size
    for start in range(size - 1, -1, -1):
        options = [
            costs[extra][start] + best[min(start + (1 << extra), size)]
            for extra in range(widest + 1)
        ]
        best[start] = min(options)
        choice[start] = options.index(best[start])
    cuts, start = [], 0
    while start < size:
        cuts.append((start, choice[start]))
        start += 1 << choice[start]
    return cuts


def _bin_costs(cumulated: np.ndarray, total: int, extra: int, low_bits: int) -> np.ndarray:
    """Returns the bits that a bin of 2**extra places would cost at each start."""
    size = len(cumulated) - 1
    ends = np.minimum(np.arange(size) + (1 << extra), size)
    counts = (cumulated[ends] - cumulated[:-1]).astype(np.float64)
    least = total / (1 << MAX_BITS)
    symbol_bits = counts * np.log2(total / np.maximum(counts, least))
    # The smallest frequency can be more than a bin's codes deserve; all other codes then pay for
    # the difference.
    taken = np.maximum(least - counts, 0) / np.log(2)
    cost = symbol_bits + taken + counts * (extra + low_bits) + TABLE_BITS_PER_BIN
    return np.where(counts > 0, cost, TABLE_BITS_PER_EMPTY_BIN)


def _candidates(
    first: int, extras: tuple[int, ...], counts: np.ndarray, bits: int
) -> list[tuple[Table, float]]:
    """Returns tables of every precision with the bits that they spend on symbols."""
    ideal = _at_least_one(counts, 1 << bits)
    peak = int(np.argmax(counts))
    found = []
    for precision in range(bits + 1):
        for diffuse in (False, True):
            frequencies = _quantize(ideal.tolist(), peak, precision, diffuse)
            rest = (1 << bits) - sum(frequencies)
            if rest < 1:
                continue
            frequencies[peak] = rest
            table = Table(first, extras, tuple(frequencies), peak, bits, precision)
            found.append((table, float(counts @ (bits - np.log2(np.maximum(frequencies, 1))))))
    return found


def _at_least_one(counts: np.ndarray, size: int) -> np.ndarray:
    """Divides `size` in proportion to `counts`, with at least 1 for every bin that is used."""
    ideal = counts * (size / counts.sum())
    small = np.zeros(len(counts), bool)
    while ((counts > 0) & (ideal < 1) & ~small).any():
        small |= (counts > 0) & (ideal < 1)
        ideal = np.where(small, 1.0, counts * ((size - small.sum()) / counts[~small].sum()))
    return ideal


def _quantize(ideal: list[float], peak: int, precision: int, diffuse: bool) -> list[int]:
    """Rounds frequencies to `precision` bits below the leading one, but no used bin to zero.

    That of the peak is left 0. Nearest rounding leaves its errors to the peak, which is best if the
    peak is large. `diffuse` rounds up or down so that the errors cancel, which is best if all are
    alike.
    """
    error = 0.0
    frequencies = []
    for index, value in enumerate(ideal):
        if index == peak or value == 0:
            frequencies.append(0)
            continue
        step = 1 << max(int(log2(value)) - precision, 0)
        target = value + (max(-step, min(step, error)) if diffuse else 0)
        down = max(int(value // step) * step, 1)
        rounded = down + step if target - down > step / 2 else down
        error += value - rounded
        frequencies.append(rounded)
    return frequencies
