"""Choice of the classes of one tensor: by estimated bits, over all kinds and numbers of them.

What a table costs depends on how many tensors will use it, so the caller tries several prices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ..format.cells import (
    CATEGORIES,
    MAX_MAPPED,
    MIN_NEIGHBOUR_COLUMNS,
    Axis,
    Classes,
    Maps,
    categories,
    neighbour_contexts,
)
from ..format.index import MAX_CHUNK_LOG2
from .cluster import cluster, sum_by
from .symbols import LARGEST, entropy_bits, symbol_count, symbol_table

# Numbers of classes to try, ever wider apart, as each takes another clustering.
ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
# Fewer, because each is tried with every number of second classes.
ROW_COUNTS_BESIDE_SECONDS = (1, 2, 4, 8, 16)
SECOND_COUNTS = (2, 3, 4, 6, 8, 12, 16)
# As many tables of 12 bits as MAX_STATES allows.
MOST_CELLS = 32
# For fewer weights a map and a second table cost too much.
MIN_WEIGHTS = 256
# Which fractions of the codes that are not 0 may count as small. Far smaller or larger ones would
# leave one of the two categories without codes.
SMALL_FRACTIONS = (0.3, 0.5, 0.7)
# What classes add to an entry, and the states and the table of a map, in bits.
MAP_BITS = 90.0


@dataclass(frozen=True)
class Subject:
    """A tensor's codes with what the choice of classes needs to know.

    Args:
        codes: integers (weights,); classes need -128 to 127.
        shape: of the tensor.
        width: bits of an element.
        shift: bits that its codes are shifted up by.
        before: its elements in the base, for a delta. Default none.
    """

    codes: np.ndarray
    shape: tuple[int, ...]
    width: int
    shift: int
    before: np.ndarray | None = None


@dataclass(frozen=True)
class Split:
    """Classes with their maps and the symbols in each cell.

    Args:
        classes: how weights are told apart.
        maps: of rows and second classes.
        contexts: where each weight looks up the second map; None without second classes.
        histograms: counts (row classes, second classes, symbols).
        code_bits: entropy of the symbols in their cells.
        map_bits: what the maps and the list of tables take.
    """

    classes: Classes
    maps: Maps
    contexts: np.ndarray | None
    histograms: np.ndarray
    code_bits: float
    map_bits: float


@dataclass(frozen=True)
class _Second:
    """A way to get second classes: their axis, and where each weight looks up the map."""

    axis: Axis
    threshold: int
    contexts: np.ndarray
    entries: int


@dataclass(frozen=True)
class Price:
    """What a table is taken to cost, in bits."""

    table: float
    bin: float

    def of_tables(self, histograms: np.ndarray) -> np.ndarray:
        """Returns the bits of the table of each cell, (...) of (..., symbols); 0 if it is empty."""
        used = (histograms > 0).sum(-1)
        return np.where(used > 0, self.table + self.bin * used, 0)

    def of(self, split: Split) -> float:
        """Returns the bits of all of a split."""
        return split.code_bits + split.map_bits + float(self.of_tables(split.histograms).sum())


class _Counter:
    """Counts the symbols of a tensor by row class and second class, of those that are in use."""

    def __init__(self, subject: Subject) -> None:
        everywhere = symbol_table()[subject.codes.astype(np.int64) + LARGEST]
        self.used, self.symbols = np.unique(everywhere, return_inverse=True)
        self.rows = subject.shape[0]
        self.row_of = np.repeat(np.arange(self.rows), len(self.symbols) // self.rows)

    def count(
        self, first: np.ndarray, firsts: int, second: np.ndarray | None = None, seconds: int = 1
    ) -> np.ndarray:
        """Returns the symbols (firsts, seconds, symbols) by two labels of each weight."""
        key = first if second is None else first * seconds + second
        size = len(self.used)
        return np.bincount(key * size + self.symbols, minlength=firsts * seconds * size).reshape(
            firsts, seconds, size
        )

    def widen(self, histograms: np.ndarray) -> np.ndarray:
        """Returns counts of the symbols in use (a, b, symbols) as counts of all symbols."""
        wide = np.zeros((*histograms.shape[:2], symbol_count()))
        wide[:, :, self.used] = histograms
        return wide


def choose_classes(subject: Subject, prices: Sequence[Price]) -> list[Split]:
    """Returns the cheapest split of a tensor found at each price, perhaps into one cell."""
    counter = _Counter(subject)
    whole = counter.count(np.zeros(len(counter.symbols), np.int64), 1)
    best = [_split(np.zeros(0, np.int64), None, None, whole)] * len(prices)
    if len(counter.symbols) >= MIN_WEIGHTS:
        by_row = counter.count(counter.row_of, counter.rows) if counter.rows <= MAX_MAPPED else None
        for second in [None, *_seconds(subject)]:
            for split in _splits(counter, by_row, second, prices[0]):
                best = [
                    min(known, split, key=price.of)
                    for known, price in zip(best, prices, strict=True)
                ]
    return [replace(split, histograms=counter.widen(split.histograms)) for split in best]


def _splits(
    counter: _Counter, by_row: np.ndarray | None, second: _Second | None, price: Price
) -> Iterator[Split]:
    """Yields splits for each number of row and second classes.

    Row classes are made first, then second classes for them, then, for the best of these at
    `price`, row classes again.
    """
    for wanted in ROW_COUNTS if second is None else ROW_COUNTS_BESIDE_SECONDS:
        if wanted > 1 and (by_row is None or wanted > counter.rows):
            continue
        rows = (
            np.zeros(counter.rows, np.int64)
            if by_row is None or wanted == 1
            else cluster(by_row, wanted)
        )
        count = int(rows.max()) + 1
        if second is None:
            if count > 1 and by_row is not None:
                yield _split(rows, None, None, sum_by(by_row, rows, count))
            continue
        by_second = counter.count(second.contexts, second.entries, rows[counter.row_of], count)
        found = []
        for classes in SECOND_COUNTS:
            if classes <= second.entries and classes * count <= MOST_CELLS:
                labels = cluster(by_second, classes)
                sums = sum_by(by_second, labels, int(labels.max()) + 1).swapaxes(0, 1)
                found.append(_split(rows, labels, second, sums))
        yield from found
        best = min(found, key=price.of, default=None)
        if best and min(best.classes.rows, best.classes.seconds) > 1:
            labels = best.maps.seconds
            both = counter.count(
                counter.row_of, counter.rows, labels[second.contexts], best.classes.seconds
            )
            rows = cluster(both, count)
            yield _split(rows, labels, second, sum_by(both, rows, int(rows.max()) + 1))


def _split(
    rows: np.ndarray, labels: np.ndarray | None, second: _Second | None, sums: np.ndarray
) -> Split:
    """Returns a split; `sums` counts (row classes, second classes, symbols)."""
    classes = Classes(sums.shape[0], Axis.NONE, sums.shape[1])
    seconds, contexts = np.zeros(0, np.int64), None
    if labels is not None and second is not None and sums.shape[1] > 1:
        classes = replace(classes, axis=second.axis, threshold=second.threshold)
        seconds, contexts = labels, second.contexts
    maps = Maps(rows if classes.rows > 1 else np.zeros(0, np.int64), seconds)
    map_bits = sum(
        float(entropy_bits(np.bincount(part))) for part in (maps.rows, maps.seconds) if len(part)
    )
    map_bits += 8 * classes.cells + MAP_BITS if classes.cells > 1 else 0
    return Split(classes, maps, contexts, sums, float(entropy_bits(sums).sum()), map_bits)


def _seconds(subject: Subject) -> Iterator[_Second]:
    """Yields the ways to get second classes that the tensor's shape allows."""
    shape: Any = subject.shape
    row = prod(shape[1:])
    if 1 < shape[-1] <= MAX_MAPPED and len(shape) > 1:
        columns = np.tile(np.arange(shape[-1]), len(subject.codes) // shape[-1])
        yield _Second(Axis.COLUMNS, 0, columns, shape[-1])
    if subject.width > 8:
        return
    if subject.before is not None:
        for threshold in _thresholds(subject.codes):
            found = categories(threshold, subject.width, subject.shift)
            yield _Second(Axis.BASE, threshold, found[subject.before].astype(np.int64), CATEGORIES)
        return
    near = (
        len(shape) == 4 and shape[3] >= MIN_NEIGHBOUR_COLUMNS and shape[2] * shape[3] <= MAX_MAPPED
    )
    if near and shape[1] * shape[2] > 1 and row <= 1 << MAX_CHUNK_LOG2:
        elements = (subject.codes.astype(np.int64) << subject.shift) & ((1 << subject.width) - 1)
        for threshold in _thresholds(subject.codes):
            found = categories(threshold, subject.width, subject.shift)[elements]
            yield _Second(
                Axis.NEIGHBOURS,
                threshold,
                neighbour_contexts(found, shape).astype(np.int64),
                CATEGORIES**2,
            )


def _thresholds(codes: np.ndarray) -> list[int]:
    """Returns magnitudes that may tell small codes from large ones: 1 and three quantiles."""
    sizes = np.abs(codes[codes != 0].astype(np.int64))
    if not len(sizes):
        return []
    return sorted({1, *map(int, np.quantile(sizes, SMALL_FRACTIONS, method="lower"))})
