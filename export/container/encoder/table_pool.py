"""Tables for all tensors of a model: classes for each, one pool for all, and the true cost of what
comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..format.cells import MAX_CLASSES, Axis, Classes, Maps, row_and_second_cells
from ..format.states import lanes
from ..format.table import MAX_BITS, MAX_TABLES, Table, write_table
from .class_choice import Price, Split, Subject, choose
from .cluster import by_frequency
from .symbols import LARGEST, symbol_count, symbol_table
from .table_fit import PROBABILITY_BITS, Fit, fit, fit_histogram, table_bits
from .table_sharing import MOST_TABLES, share, share_wide

# A table of a low-bit tensor as it is stored, and one that several tensors share.
TABLE_PRICE = Price(30, 4.5)
SHARED_PRICE = Price(8, 1)
# What classes add to an entry, in bits, beside the map and a byte for each cell.
CLASS_FIELD_BITS = 8 * 5
MOST_MAP_TABLES = 8
# Many tables of 12 bits do not fit a processor's first cache: this part of all bits is not worth
# the time.
LARGE_TABLES_MUST_SAVE = 0.001


@dataclass(frozen=True)
class Assigned:
    """How the codes of one tensor are coded; `bits` are estimated, of the entry as well but not of
    the tables.
    """

    classes: Classes
    maps: Maps
    cells: np.ndarray | None
    tables: tuple[Table, ...]
    bits: float
    map_table: Table | None = None


@dataclass(frozen=True)
class _Part:
    """A tensor with the groups of its cells, (row classes, second classes), and the codes counted
    in each cell.
    """

    split: Split
    groups: np.ndarray
    cells: np.ndarray | None
    counts: np.ndarray


def assign(subjects: Sequence[Subject], fits: Sequence[Fit]) -> list[Assigned]:
    """Returns the tables of each tensor: with or without classes and sharing, whatever is smallest
    in all.

    Args:
        subjects: the tensors.
        fits: a table for each alone.
    """
    small = [
        n for n, s in enumerate(subjects) if s.codes.min() >= -LARGEST and s.codes.max() < LARGEST
    ]
    wide = sorted(set(range(len(subjects))) - set(small))
    plain = [_alone(found) for found in fits]
    for n, found in zip(
        wide, share_wide([subjects[n].codes for n in wide], [fits[n] for n in wide]), strict=True
    ):
        plain[n] = _alone(found)
    if not small:
        return plain
    splits = [choose(subjects[n], (TABLE_PRICE, SHARED_PRICE)) for n in small]
    found = [plain]
    for choice, bits in product(range(2), PROBABILITY_BITS):
        pooled, owned = list(plain), list(plain)
        pool = _pool([subjects[n] for n in small], [split[choice] for split in splits], bits)
        for n, one in zip(small, pool, strict=True):
            own_bits = plain[n].bits + 8 * len(write_table(plain[n].tables[0]))
            pooled[n], owned[n] = one, one if one.bits <= own_bits else plain[n]
        found += [pooled, owned]
    return min((some for some in found if len(_tables(some)) <= MAX_TABLES), key=_total_bits)


def _alone(found: Fit) -> Assigned:
    nothing = np.zeros(0, np.int64)
    return Assigned(Classes(), Maps(nothing, nothing), None, (found.table,), found.data_bits + 8)


def _total_bits(assigned: Sequence[Assigned]) -> float:
    bits = sum(one.bits for one in assigned) + 8.0 * sum(
        len(write_table(table)) for table in _tables(assigned)
    )
    large = any(one.classes.cells > 1 and one.tables[0].bits == MAX_BITS for one in assigned)
    return bits * (1 + LARGE_TABLES_MUST_SAVE) if large else bits


def _tables(assigned: Sequence[Assigned]) -> set[Table]:
    return {table for one in assigned for table in (*one.tables, one.map_table) if table}


def _pool(subjects: Sequence[Subject], splits: Sequence[Split], bits: int) -> list[Assigned]:
    """Lets cells of all tensors share tables, then joins the classes of a tensor that became alike.

    Tables of a tensor with classes have `bits` probability bits.
    """
    labels = share(
        np.concatenate([s.histograms.reshape(-1, symbol_count()) for s in splits]),
        TABLE_PRICE,
        MOST_TABLES,
    )
    ends = np.cumsum([split.classes.cells for split in splits])[:-1]
    parts = [_join(*pair) for pair in zip(subjects, splits, np.split(labels, ends), strict=True)]
    totals = np.zeros((int(labels.max()) + 1, 2 * LARGEST), np.int64)
    for part in parts:
        np.add.at(totals, part.groups.ravel(), part.counts)
    alone = (
        np.bincount(np.concatenate([part.groups.ravel() for part in parts]), minlength=len(totals))
        == 1
    )
    fixed = {group for part in parts if part.groups.size > 1 for group in part.groups.ravel()}
    tables = [
        _fit(total, PROBABILITY_BITS if alone[group] and group not in fixed else (bits,))
        if total.any()
        else None
        for group, total in enumerate(totals)
    ]
    map_tables = iter(_map_tables([part.split.maps for part in parts if part.groups.size > 1]))
    return [
        _assigned(part, tables, next(map_tables) if part.groups.size > 1 else None)
        for part in parts
    ]


def _join(subject: Subject, split: Split, labels: np.ndarray) -> _Part:
    """Joins classes whose cells have the same tables, and counts the codes in the cells that are
    left.
    """
    groups, maps, classes = labels.reshape(split.histograms.shape[:2]), split.maps, split.classes
    if classes.rows > 1:
        rows, groups = _distinct(groups, maps.rows)
        maps = replace(maps, rows=rows if len(groups) > 1 else rows[:0])
    if classes.seconds > 1:
        seconds, groups = _distinct(groups.T, maps.seconds)
        groups = groups.T
        maps = replace(maps, seconds=seconds if groups.shape[1] > 1 else seconds[:0])
    axis = classes.axis if groups.shape[1] > 1 else Axis.NONE
    threshold = classes.threshold if axis else 0
    classes = Classes(groups.shape[0], axis, groups.shape[1], threshold)
    contexts = split.contexts if axis >= Axis.NEIGHBOURS else None
    split = replace(split, classes=classes, maps=maps, contexts=contexts)
    cells = row_and_second_cells(classes, subject.shape, maps, contexts)
    keys = subject.codes.astype(np.int64) + LARGEST
    if cells is not None:
        keys += cells.astype(np.int64) * (2 * LARGEST)
    counts = np.bincount(keys, minlength=groups.size * 2 * LARGEST).reshape(-1, 2 * LARGEST)
    return _Part(split, groups, cells, counts)


def _distinct(groups: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns new labels for the rows of `groups` that differ and are in use, commonest first, and
    those rows.
    """
    same = np.unique(groups, axis=0, return_inverse=True)[1].reshape(-1)
    new = by_frequency(same[labels])
    kept = np.empty(int(new.max()) + 1, np.int64)
    kept[new] = labels
    return new, groups[kept]


def _fit(counts: np.ndarray, probability_bits: Sequence[int]) -> Table:
    used = np.flatnonzero(counts)
    return fit_histogram(
        int(used[0]) - LARGEST, counts[used[0] : used[-1] + 1], 0, probability_bits
    ).table


def _map_tables(maps: Sequence[Maps]) -> list[Table]:
    """Returns a table for each tensor's maps, shared where that is cheaper."""
    if not maps:
        return []
    counts = np.array(
        [np.bincount(np.concatenate([m.rows, m.seconds]), minlength=LARGEST) for m in maps]
    )
    symbols = np.zeros((len(maps), symbol_count()))
    symbols[:, symbol_table()[LARGEST : LARGEST + MAX_CLASSES]] = counts[:, :MAX_CLASSES]
    labels = share(symbols, TABLE_PRICE, MOST_MAP_TABLES)
    sums = [counts[labels == label].sum(0) for label in range(int(labels.max()) + 1)]
    tables = [fit(np.repeat(np.arange(LARGEST), total)).table for total in sums]
    return [tables[label] for label in labels]


def _assigned(part: _Part, tables: Sequence[Table | None], map_table: Table | None) -> Assigned:
    chosen = [tables[group] for group in part.groups.ravel()]
    some = next(table for table in chosen if table)
    # A cell that no code is in has no table of its own.
    named = tuple(table or some for table in chosen)
    bits = sum(
        _cell_bits(table, count) for table, count in zip(named, part.counts, strict=True)
    ) + 8 * len(named)
    maps = part.split.maps
    if map_table:
        codes = np.concatenate([maps.rows, maps.seconds])
        bits += table_bits(map_table, codes) + map_table.bits * lanes(len(codes)) + CLASS_FIELD_BITS
    return Assigned(part.split.classes, maps, part.cells, named, bits, map_table)


def _cell_bits(table: Table, counts: np.ndarray) -> float:
    """Returns the bits of codes counted from the smallest on."""
    used = np.flatnonzero(counts)
    return table_bits(table, used - LARGEST, counts[used])
