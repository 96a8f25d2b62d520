"""What a static Huffman code would take, for comparison: the container itself does not use one."""

import heapq
from collections.abc import Sequence

import numpy as np


def huffman_lengths(counts: Sequence[int]) -> list[int]:
    """Returns the length in bits of the code word of each symbol, for the least mean length.

    Args:
        counts: how often each symbol occurs, all above 0.

    Example:
        >>> huffman_lengths([5, 2, 1, 1])
        [1, 2, 3, 3]

    Reference: Huffman 1952, A method for the construction of minimum-redundancy codes.
    """
    if len(counts) == 1:
        return [1]
    lengths = [0] * len(counts)
    heap = [(int(count), symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, _, left), (second, number, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (first + second, number, left + right))
    return lengths


def huffman_bytes(codes: np.ndarray) -> float:
    """Returns the size of `codes` in a static Huffman code of their own, without its table.

    Example:
        >>> huffman_bytes(np.int8([0, 0, 0, 0, 0, 1, 1, -1, 3]))
        1.875
    """
    counts = np.unique(codes, return_counts=True)[1].tolist()
    return (
        sum(count * length for count, length in zip(counts, huffman_lengths(counts), strict=True))
        / 8
    )
