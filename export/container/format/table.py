"""One probability table: bins of codes, each with a frequency, and its stored form in POOL.

A bin is the interval of codes `[start, start + 2**extra)`. One symbol of the entropy coder names
the bin; `extra` raw bits after it name the code inside. Bins follow each other without a gap, so
`start` is a running sum. Frequencies sum to `2**bits`. That of one bin, the peak, is what the
others leave over and is not stored.

Stored form: varint zigzag(first code), then bits, least significant first:

    1      bits - 11
    4      precision p
    8      bins - 1
    8      index of the peak
    1      whether `extra` varies
    gamma  extra of the first bin, then, if it varies, zigzag(extra - extra of the bin before) of
           each other
    gamma  zigzag(class - predicted class), then min(p, class - 1) bits below the leading one of
           the frequency, for every bin but the peak

The class of a frequency is its bit length. A bin after the peak is predicted from its mirror image
before the peak, any other from the bin before it: weights are close to symmetric, and then half of
the table is nearly free.
"""

from dataclasses import dataclass

import numpy as np

from .bits import BitReader, BitWriter
from .cursor import Reader, unzigzag, varint, zigzag

# Probability bits: 12 give a rare code the frequency it has, 11 make automata of half the size.
MIN_BITS, MAX_BITS = 11, 12
# Numbered by one byte.
MAX_BINS = 256
# One bin holds any 32-bit code.
MAX_EXTRA = 32
# Numbered by one byte.
MAX_TABLES = 256


@dataclass(frozen=True)
class Table:
    """Frequencies of bins of codes.

    Args:
        first: smallest code of the first bin.
        extras: raw bits of each bin, 0 to 32.
        frequencies: of each bin, 0 for one that never occurs; they sum to `2**bits`.
        peak: index of the bin whose frequency is not stored, best the most frequent one.
        bits: probability bits, 11 or 12. Default 12.
        precision: bits below the leading one that the stored form keeps of each frequency. Default
            12, all.

    >>> Table(-1, (0, 0, 0), (48, 4000, 48), peak=1).starts.tolist()
    [-1, 0, 1]
    """

    first: int
    extras: tuple[int, ...]
    frequencies: tuple[int, ...]
    peak: int
    bits: int = MAX_BITS
    precision: int = MAX_BITS

    @property
    def starts(self) -> np.ndarray:
        """The smallest code of each bin, int64 (bins,)."""
        widths = np.left_shift(np.int64(1), np.array(self.extras, np.int64))
        return self.first + np.cumsum(widths) - widths

    @property
    def end(self) -> int:
        """One more than the largest code of the last bin."""
        return self.first + sum(1 << extra for extra in self.extras)


def predicted_class(classes: list[int], peak: int) -> int:
    """Predicts the class of bin `len(classes)` from the classes before it."""
    index = len(classes)
    mirror = 2 * peak - index
    if index > peak and mirror >= 0:
        return classes[mirror]
    previous = index - 2 if index - 1 == peak else index - 1
    return classes[previous] if previous >= 0 else 1


def write_table(table: Table) -> bytes:
    """Returns the stored form of `table`."""
    varies = len(set(table.extras)) > 1
    bits = BitWriter()
    bits.write(table.bits - MIN_BITS, 1)
    bits.write(table.precision, 4)
    bits.write(len(table.frequencies) - 1, 8)
    bits.write(table.peak, 8)
    bits.write(varies, 1)
    bits.gamma(table.extras[0])
    if varies:
        for before, extra in zip(table.extras, table.extras[1:], strict=False):
            bits.gamma(zigzag(extra - before))
    classes: list[int] = []
    for index, frequency in enumerate(table.frequencies):
        class_bits = frequency.bit_length()
        if index != table.peak:
            bits.gamma(zigzag(class_bits - predicted_class(classes, table.peak)))
            kept = min(table.precision, max(class_bits - 1, 0))
            bits.write(frequency >> (class_bits - 1 - kept) if kept else 0, kept)
        classes.append(class_bits)
    return varint(zigzag(table.first)) + bits.to_bytes()


def read_table(reader: Reader) -> Table:
    """Reads one table; refuses over 32 extra bits, and frequencies that leave the peak nothing."""
    first = unzigzag(reader.varint())
    bits = BitReader(reader)
    probability_bits = MIN_BITS + bits.read(1)
    precision = bits.read(4)
    count = bits.read(8) + 1
    peak = bits.read(8)
    if peak >= count:
        raise reader.error(f"a table of {count} bins names bin {peak} as its peak")
    extras = _read_extras(bits, reader, count)
    frequencies = _read_frequencies(bits, reader, count, peak, precision, probability_bits)
    bits.finish()
    return Table(first, extras, frequencies, peak, probability_bits, precision)


def _read_extras(bits: BitReader, reader: Reader, count: int) -> tuple[int, ...]:
    varies = bits.read(1)
    extras = [bits.gamma()]
    for _ in range(count - 1):
        extras.append(extras[-1] + (unzigzag(bits.gamma()) if varies else 0))
    if not 0 <= min(extras) <= max(extras) <= MAX_EXTRA:
        raise reader.error(
            f"a bin has {min(extras)} to {max(extras)} extra bits; 0 to {MAX_EXTRA} are possible"
        )
    return tuple(extras)


def _read_frequencies(
    bits: BitReader, reader: Reader, count: int, peak: int, precision: int, probability_bits: int
) -> tuple[int, ...]:
    classes: list[int] = []
    frequencies: list[int] = []
    for index in range(count):
        class_bits = frequency = 0
        if index != peak:
            class_bits = predicted_class(classes, peak) + unzigzag(bits.gamma())
            if not 0 <= class_bits <= probability_bits:
                raise reader.error(
                    f"a frequency of class {class_bits} in a table of {probability_bits} "
                    "probability bits"
                )
        if class_bits:
            kept = min(precision, class_bits - 1)
            frequency = (1 << kept | bits.read(kept)) << (class_bits - 1 - kept)
        classes.append(class_bits)
        frequencies.append(frequency)
    frequencies[peak] = (1 << probability_bits) - sum(frequencies)
    if frequencies[peak] < 1:
        raise reader.error(
            f"the frequencies sum to {sum(frequencies) - frequencies[peak]} before the peak; "
            f"a table of {probability_bits} probability bits sums to {1 << probability_bits}"
        )
    return tuple(frequencies)
