"""Bit streams, least significant bit first: bit i of a stream is bit `i % 8` of byte `i // 8`.

The gamma code of v >= 0 writes k zeros, a one, and the low k bits of v + 1, which has k + 1 bits.
"""

import numpy as np

from .cursor import Reader

# Enough for every field of a table: frequencies have at most 12 bits, and bins 32 extra bits.
MAX_GAMMA_ZEROS = 6


class BitWriter:
    """Collects numbers of a few bits each.

    >>> bits = BitWriter()
    >>> bits.write(5, 3), bits.gamma(0), bits.to_bytes().hex()
    (None, None, '0d')
    """

    def __init__(self) -> None:
        self._value = 0
        self.length = 0

    def write(self, value: int, count: int) -> None:
        """Appends the low `count` bits of `value`."""
        self._value |= (value & ((1 << count) - 1)) << self.length
        self.length += count

    def gamma(self, value: int) -> None:
        """Appends the gamma code of `value` (0 to 126)."""
        zeros = (value + 1).bit_length() - 1
        self.write(1 << zeros, zeros + 1)
        self.write(value + 1, zeros)

    def to_bytes(self) -> bytes:
        """Returns the stream, its last byte filled up with zeros."""
        return self._value.to_bytes((self.length + 7) // 8, "little")


class BitReader:
    """Reads what a `BitWriter` wrote from the current position of `reader` on.

    >>> bits = BitReader(Reader(b"\\x0d", "table"))
    >>> bits.read(3), bits.gamma()
    (5, 0)
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._byte = 0
        self._left = 0

    def read(self, count: int) -> int:
        """Returns the next `count` bits."""
        value = 0
        for index in range(count):
            if self._left == 0:
                self._byte, self._left = self._reader.u8(), 8
            value |= (self._byte & 1) << index
            self._byte >>= 1
            self._left -= 1
        return value

    def gamma(self) -> int:
        """Returns the next gamma code; refuses one over 126."""
        for zeros in range(MAX_GAMMA_ZEROS + 1):
            if self.read(1):
                return (1 << zeros | self.read(zeros)) - 1
        raise self._reader.error(f"a gamma code starts with more than {MAX_GAMMA_ZEROS} zeros")

    def finish(self) -> None:
        """Refuses a last byte that is not filled up with zeros."""
        if self._byte:
            raise self._reader.error("the bits after a table's last field are not zero")


def pack_bits(values: np.ndarray, lengths: np.ndarray) -> bytes:
    """Concatenates the low `lengths[i]` bits of `values[i]`, in order.

    Args:
        values: uint64 (n,), zero above their length.
        lengths: int64 (n,), 0 to 63 bits each.

    >>> pack_bits(np.array([5, 1], np.uint64), np.array([3, 1])).hex()
    '0d'
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    starts = ends - lengths
    word = starts >> 6
    shift = (starts & 63).astype(np.uint64)
    words = np.zeros(total // 64 + 2, np.uint64)
    first = np.flatnonzero(np.diff(word, prepend=-1))
    # The parts of one word are disjoint, so their sum is their union.
    words[word[first]] = np.add.reduceat(values << shift, first)
    over = np.flatnonzero((starts & 63) + lengths > 64)
    words[word[over] + 1] |= values[over] >> (np.uint64(64) - shift[over])
    return words.astype("<u8").tobytes()[: (total + 7) // 8]


def read_bits(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns `lengths[i]` bits from bit `starts[i]` of `data` as int64 (n,).

    Args:
        data: uint8, with at least 8 bytes after the last bit that is read.
        starts: int64 (n,), bits.
        lengths: int64 (n,), 0 to 57 bits each.

    >>> read_bits(np.array([13] + [0] * 8, np.uint8), np.array([0, 3]), np.array([3, 1])).tolist()
    [5, 1]
    """
    value = np.zeros(len(starts), np.uint64)
    for index in range(8):
        value |= data[(starts >> 3) + index].astype(np.uint64) << np.uint64(8 * index)
    value >>= (starts & 7).astype(np.uint64)
    return (value & ((np.uint64(1) << lengths.astype(np.uint64)) - np.uint64(1))).astype(np.int64)
