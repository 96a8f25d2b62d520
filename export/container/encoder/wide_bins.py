"""Bins for codes far apart, such as biases of which one in a thousand is a million times the
others.
"""

from math import log2

import numpy as np

TABLE_BITS_PER_BIN = 4.5
TABLE_BITS_PER_EMPTY_BIN = 2.0
# A bin of fewer codes than this part of all would get more than its share of the states.
SMALLEST_SHARE = 1 / 2048


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
    """Returns the bits that codes in 2**extra places from `start` on take, and (extra bits, codes)
    of their bins.
    """
    count = len(codes)
    if count == 0:
        return TABLE_BITS_PER_EMPTY_BIN, [(extra, 0)]
    bits = count * (log2(total / count) + extra) + TABLE_BITS_PER_BIN
    if extra == 0 or count <= max(1, total * SMALLEST_SHARE):
        return bits, [(extra, count)]
    middle = start + (1 << (extra - 1))
    place = int(np.searchsorted(codes, middle))
    low_bits, low = _cut(codes[:place], start, extra - 1, total)
    high_bits, high = _cut(codes[place:], middle, extra - 1, total)
    return (
        (low_bits + high_bits, low + high)
        if low_bits + high_bits < bits
        else (bits, [(extra, count)])
    )
