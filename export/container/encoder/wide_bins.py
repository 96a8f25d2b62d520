"""Bins for codes far apart, such as biases of which one is a million times the others."""

from math import log2

import numpy as np

# What a bin takes in the stored table, about: two gamma codes and a few bits of the frequency. An
# empty one has no such bits.
TABLE_BITS_PER_BIN = 4.5
TABLE_BITS_PER_EMPTY_BIN = 2.0
# A bin with a smaller fraction of all codes would get more than that fraction of the states.
SMALLEST_FRACTION = 1 / 2048


def halve(codes: np.ndarray) -> tuple[int, tuple[int, ...], np.ndarray]:
    """Cuts an interval around all codes in halves as long as that saves bits.

    Args:
        codes: int64 (n,), sorted.

    Returns:
        The first code, the extra bits of each bin and the codes in it.

    >>> first, extras, counts = halve(np.array([5, 5, 5, 1 << 30]))
    >>> first, extras[-1], counts[-1]
    (5, 30, 1)
    """
    low, high = int(codes[0]), int(codes[-1])
    extra = max(high, -low - 1, 0).bit_length()
    start = -1 << extra if low < 0 else 0
    cuts = _cut(codes, start, extra + (low < 0), len(codes))[1]
    used = [place for place, (_, count) in enumerate(cuts) if count]
    first = start + sum(1 << extra for extra, _ in cuts[: used[0]])
    kept = cuts[used[0] : used[-1] + 1]
    return first, tuple(extra for extra, _ in kept), np.array([count for _, count in kept])


def _cut(
    codes: np.ndarray, start: int, extra: int, total: int
) -> tuple[float, list[tuple[int, int]]]:
    """Cuts the interval of 2**extra places from `start` on, in which all `codes` lie.

    Returns:
        The bits that the codes take, and (extra bits, number of codes) of each bin.
    """
    count = len(codes)
    if count == 0:
        return TABLE_BITS_PER_EMPTY_BIN, [(extra, 0)]
    bits = count * (log2(total / count) + extra) + TABLE_BITS_PER_BIN
    if extra == 0 or count <= max(1, total * SMALLEST_FRACTION):
        return bits, [(extra, count)]
    middle = start + (1 << (extra - 1))
    place = int(np.searchsorted(codes, middle))
    low_bits, low = _cut(codes[:place], start, extra - 1, total)
    high_bits, high = _cut(codes[place:], middle, extra - 1, total)
    if low_bits + high_bits < bits:
        return low_bits + high_bits, low + high
    return bits, [(extra, count)]
