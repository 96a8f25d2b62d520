"""Tables for all tensors of a model: classes for each, tables merged over all, and their cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..format.cells import MAX_CLASSES, Axis, Classes, Maps, row_and_second_cells
from ..format.states import lanes
from ..format.table import MAX_BITS, MAX_TABLES, Table, write_table
from .class_choice import Price, Split, Subject, choose_classes
from .cluster import by_frequency
from .symbols import LARGEST, symbol_count, symbol_table
from .table_fit import PROBABILITY_BITS, FittedTable, fit_table, fit_table_to_counts, table_bits
from .table_merging import MOST_TABLES, merge_cells, merge_wide

# About what the table of a low-bit tensor takes, and what is left of that for each of several
# tensors that use it.
TABLE_PRICE = Price(30, 4.5)
SHARED_PRICE = Price(8, 1)
# What classes add to an entry, in bits, beside the map and a byte for each cell.
CLASS_FIELD_BITS = 8 * 5
# Maps are short: few tables suffice, and the 256 numbers are for weights, biases and scales.
MOST_MAP_TABLES = 8
# Many tables of 12 bits do not fit a processor's first cache: so small a fraction of all bits is
# not worth the time.
LARGE_TABLES_MUST_SAVE = 0.001


@dataclass(frozen=True)
class Coding:
    """How the codes of one tensor are coded.

    Args:
        classes: how its weights are told apart.
        maps: of row and second classes.
        cells: of each weight, or None if all are 0.
        tables: of each cell.
        bits: estimated, of codes, map and entry, but not of the tables.
        map_table: of the map, if it has classes. Default none.
    """

    classes: Classes
    maps: Maps
    cells: np.ndarray | None
    tables: tuple[Table, ...]
    bits: float
    map_table: Table | None = None


@dataclass(frozen=True)
class _Joined:
    """A tensor whose alike classes are joined.

    Args:
        split: its classes and maps.
        labels: the number of the table of each cell, (row classes, second classes).
        cells: of each weight, or None if all are 0.
        counts: of the codes in each cell, (cells, 256).
    """

    split: Split
    labels: np.ndarray
    cells: np.ndarray | None
    counts: np.ndarray


def pool_tables(subjects: Sequence[Subject], alone: Sequence[FittedTable]) -> list[Coding]:
    """Returns the tables of each tensor: whatever is smallest for the whole model.

    Tried: a table for each tensor alone; classes with the tables of all tensors merged, at two
    prices of a table and with 11 and 12 probability bits; and these only for tensors that they make
    smaller.

    Args:
        subjects: the tensors.
        alone: a table for each by itself.
    """
    small = [
        n for n, s in enumerate(subjects) if s.codes.min() >= -LARGEST and s.codes.max() < LARGEST
    ]
    wide = sorted(set(range(len(subjects))) - set(small))
    plain = [_without_classes(fitted) for fitted in alone]
    merged = merge_wide([subjects[n].codes for n in wide], [alone[n] for n in wide])
    for n, fitted in zip(wide, merged, strict=True):
        plain[n] = _without_classes(fitted)
    if not small:
        return plain
    splits = [choose_classes(subjects[n], (TABLE_PRICE, SHARED_PRICE)) for n in small]
    tried = [plain]
    for choice, bits in product(range(2), PROBABILITY_BITS):
        pooled, picked = list(plain), list(plain)
        codings = _pool([subjects[n] for n in small], [split[choice] for split in splits], bits)
        for n, coding in zip(small, codings, strict=True):
            own_bits = plain[n].bits + 8 * len(write_table(plain[n].tables[0]))
            pooled[n], picked[n] = coding, coding if coding.bits <= own_bits else plain[n]
        tried += [pooled, picked]
    return min((found for found in tried if len(_tables(found)) <= MAX_TABLES), key=_total_bits)


def _without_classes(fitted: FittedTable) -> Coding:
    nothing = np.zeros(0, np.int64)
    maps = Maps(nothing, nothing)
    return Coding(Classes(), maps, None, (fitted.table,), fitted.data_bits + 8)


def _total_bits(codings: Sequence[Coding]) -> float:
    """Returns the bits of a model's tensors and tables; large tables count a little more."""
    bits = sum(one.bits for one in codings)
    bits += 8.0 * sum(len(write_table(table)) for table in _tables(codings))
    large = any(one.classes.cells > 1 and one.tables[0].bits == MAX_BITS for one in codings)
    return bits * (1 + LARGE_TABLES_MUST_SAVE) if large else bits


def _tables(codings: Sequence[Coding]) -> set[Table]:
    return {table for one in codings for table in (*one.tables, one.map_table) if table}


def _pool(subjects: Sequence[Subject], splits: Sequence[Split], bits: int) -> list[Coding]:
    """Merges the tables of cells of all tensors, then joins classes of a tensor that became alike.

    Tables of a tensor with classes have `bits` probability bits.
    """
    histograms = np.concatenate([s.histograms.reshape(-1, symbol_count()) for s in splits])
    labels = merge_cells(histograms, TABLE_PRICE, MOST_TABLES)
    ends = np.cumsum([split.classes.cells for split in splits])[:-1]
    parts = [_join(*pair) for pair in zip(subjects, splits, np.split(labels, ends), strict=True)]
    count = int(labels.max()) + 1
    totals = np.zeros((count, 2 * LARGEST), np.int64)
    for part in parts:
        np.add.at(totals, part.labels.ravel(), part.counts)
    uses = np.bincount(np.concatenate([part.labels.ravel() for part in parts]), minlength=count)
    # The tables of one tensor must be alike in bits; one that stands alone may have either.
    fixed = {label for part in parts if part.labels.size > 1 for label in part.labels.ravel()}
    tables = [
        _fit_counts(total, PROBABILITY_BITS if uses[n] == 1 and n not in fixed else (bits,))
        if total.any()
        else None
        for n, total in enumerate(totals)
    ]
    map_tables = iter(_map_tables([part.split.maps for part in parts if part.labels.size > 1]))
    return [
        _coding(part, tables, next(map_tables) if part.labels.size > 1 else None) for part in parts
    ]


def _join(subject: Subject, split: Split, labels: np.ndarray) -> _Joined:
    """Joins classes whose cells have the same tables; counts the codes in the cells that are left.

    Args:
        subject: the tensor.
        split: its classes.
        labels: the number of the table of each cell, (cells,).
    """
    labels, maps, classes = labels.reshape(split.histograms.shape[:2]), split.maps, split.classes
    if classes.rows > 1:
        rows, labels = _distinct(labels, maps.rows)
        maps = replace(maps, rows=rows if len(labels) > 1 else rows[:0])
    if classes.seconds > 1:
        seconds, labels = _distinct(labels.T, maps.seconds)
        labels = labels.T
        maps = replace(maps, seconds=seconds if labels.shape[1] > 1 else seconds[:0])
    axis = classes.axis if labels.shape[1] > 1 else Axis.NONE
    threshold = classes.threshold if axis else 0
    classes = Classes(labels.shape[0], axis, labels.shape[1], threshold)
    contexts = split.contexts if axis >= Axis.NEIGHBOURS else None
    split = replace(split, classes=classes, maps=maps, contexts=contexts)
    cells = row_and_second_cells(classes, subject.shape, maps, contexts)
    keys = subject.codes.astype(np.int64) + LARGEST
    if cells is not None:
        keys += cells.astype(np.int64) * (2 * LARGEST)
    counts = np.bincount(keys, minlength=labels.size * 2 * LARGEST).reshape(-1, 2 * LARGEST)
    return _Joined(split, labels, cells, counts)


def _distinct(labels: np.ndarray, class_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes one class of those whose tables are all the same.

    Args:
        labels: the numbers of the tables of each class, (classes, n).
        class_of: the class of each row or entry of a map.

    Returns:
        The new classes, the most frequent being 0, and the rows of `labels` that are left.
    """
    same = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    new = by_frequency(same[class_of])
    kept = np.empty(int(new.max()) + 1, np.int64)
    kept[new] = class_of
    return new, labels[kept]


def _fit_counts(counts: np.ndarray, probability_bits: Sequence[int]) -> Table:
    """Returns a table for codes counted from the smallest on."""
    used = np.flatnonzero(counts)
    first, counted = int(used[0]) - LARGEST, counts[used[0] : used[-1] + 1]
    return fit_table_to_counts(first, counted, 0, probability_bits).table


def _map_tables(maps: Sequence[Maps]) -> list[Table]:
    """Returns a table for each tensor's maps, merged if that is cheaper."""
    if not maps:
        return []
    counts = np.array(
        [np.bincount(np.concatenate([m.rows, m.seconds]), minlength=LARGEST) for m in maps]
    )
    symbols = np.zeros((len(maps), symbol_count()))
    symbols[:, symbol_table()[LARGEST : LARGEST + MAX_CLASSES]] = counts[:, :MAX_CLASSES]
    labels = merge_cells(symbols, TABLE_PRICE, MOST_MAP_TABLES)
    sums = [counts[labels == label].sum(0) for label in range(int(labels.max()) + 1)]
    tables = [fit_table(np.repeat(np.arange(LARGEST), total)).table for total in sums]
    return [tables[label] for label in labels]


def _coding(part: _Joined, tables: Sequence[Table | None], map_table: Table | None) -> Coding:
    chosen = [tables[label] for label in part.labels.ravel()]
    # A cell that no code is in has no table of its own: any serves.
    any_table = next(table for table in chosen if table)
    listed = tuple(table or any_table for table in chosen)
    pairs = zip(listed, part.counts, strict=True)
    bits = sum(_cell_bits(table, count) for table, count in pairs) + 8 * len(listed)
    maps = part.split.maps
    if map_table:
        codes = np.concatenate([maps.rows, maps.seconds])
        bits += table_bits(map_table, codes) + map_table.bits * lanes(len(codes)) + CLASS_FIELD_BITS
    return Coding(part.split.classes, maps, part.cells, listed, bits, map_table)


def _cell_bits(table: Table, counts: np.ndarray) -> float:
    """Returns the bits of codes counted from the smallest on."""
    used = np.flatnonzero(counts)
    return table_bits(table, used - LARGEST, counts[used])
