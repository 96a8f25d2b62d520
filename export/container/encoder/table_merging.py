"""Which cells of a model use the same table: the pair that saves most is merged, until none does.

By hand, with a table at 30 bits and 4.5 more per symbol: cells of 90 zeros and 10 ones, and of 91
and 9, take 47 and 44 bits of codes and 39 of table each, 169 in all; merged 91 and 39, so they are
merged. A cell of 10 and 90 beside them would take 47 and 39 apart; with them the codes alone take
280 instead of 138, so it stays apart.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..format.table import write_table
from .class_choice import Price
from .cluster import cluster, sum_by
from .symbols import entropy_bits, wide_symbols
from .table_fit import FittedTable, fit_table, table_bits

# Of more cells, alike ones are clustered first: the time of merging grows with their square.
MAX_CELLS_TO_MERGE = 512
# Of the 256 tables that there may be, for weights; as many for biases and scales; the rest for
# maps.
MOST_TABLES = 120


def merge_cells(histograms: np.ndarray, price: Price, most: int) -> np.ndarray:
    """Returns the number of the table of each cell, int64 (n,).

    Args:
        histograms: symbols of each cell (n, symbols).
        price: of a table.
        most: how many tables there may be.

    >>> cells = np.array([[90.0, 10.0], [10.0, 90.0], [91.0, 9.0]])
    >>> merge_cells(cells, Price(30, 4.5), 256).tolist()
    [0, 1, 0]
    """
    labels = np.arange(len(histograms))
    if len(histograms) > MAX_CELLS_TO_MERGE:
        labels = cluster(histograms[:, None], MAX_CELLS_TO_MERGE)
    sums = sum_by(histograms, labels, int(labels.max()) + 1)
    costs = _costs(sums, price)
    # gains[i, j]: what i and j cost apart, less what they cost together.
    gains = np.stack(
        [costs + cost - _costs(sums + row, price) for row, cost in zip(sums, costs, strict=True)]
    )
    np.fill_diagonal(gains, -np.inf)
    alive = len(sums)
    while alive > 1:
        one, other = sorted(divmod(int(gains.argmax()), len(sums)))
        if gains[one, other] <= 0 and alive <= most:
            break
        sums[one] += sums[other]
        costs[one] = _costs(sums[one], price)
        labels[labels == other] = one
        gains[other], gains[:, other] = -np.inf, -np.inf
        gone = np.isneginf(gains[one])
        gains[one] = np.where(gone, -np.inf, costs + costs[one] - _costs(sums + sums[one], price))
        gains[:, one] = gains[one]
        alive -= 1
    return np.unique(labels, return_inverse=True)[1]


def _costs(histograms: np.ndarray, price: Price) -> np.ndarray:
    """Returns the bits of the codes and the table of each cell."""
    return entropy_bits(histograms) + price.of_tables(histograms)


def merge_wide(parts: Sequence[np.ndarray], alone: Sequence[FittedTable]) -> list[FittedTable]:
    """Returns a table for each tensor of codes of any size, such as biases: merged if smaller.

    Args:
        parts: codes of each tensor.
        alone: a table for each by itself.
    """
    if not parts:
        return []
    counts = np.array(
        [np.bincount(wide_symbols(codes), minlength=256) for codes in parts], np.float64
    )
    sizes = [8 * len(write_table(fitted.table)) for fitted in alone]
    labels = merge_cells(counts, Price(float(np.mean(sizes)), 0), MOST_TABLES)
    crowded = len({fitted.table for fitted in alone}) > MOST_TABLES
    merged = list(alone)
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            continue
        together = fit_table(np.concatenate([parts[n] for n in members]).astype(np.int64))
        apart = sum(alone[n].data_bits + sizes[n] for n in members)
        # Symbols are coarse: only the table itself shows whether merging pays.
        if crowded or together.data_bits + 8 * len(write_table(together.table)) < apart:
            for n in members:
                merged[n] = replace(together, data_bits=table_bits(together.table, parts[n]))
    return merged
