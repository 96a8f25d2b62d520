"""Which table each symbol of the lock-step decoder takes: known before, or from the symbols decoded
so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..format.cells import CATEGORIES, neighbours
from ..format.states import Schedule


@dataclass(frozen=True)
class Neighbourhood:
    """How a chunk of whole rows gets its second classes from its own codes.

    Args:
        shape: of the tensor, (O, H, W, I).
        categories: of each code, by its low 8 bits, uint8 (256,).
        seconds: the second class of each pair of categories, uint8 (25,).
        classes: number of second classes.
    """

    shape: tuple[int, ...]
    categories: np.ndarray
    seconds: np.ndarray
    classes: int

    def places(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the places of the left and upper neighbours of `count` weights at `first`, 0
        where missing.
        """
        own = np.arange(first, first + count)
        has_left, has_upper = (np.tile(has, count // len(has)) for has in neighbours(self.shape))
        columns = self.shape[3]
        return np.where(has_left, own - columns, 0), np.where(
            has_upper, own - columns * self.shape[2], 0
        )

    def choices(self, tables: np.ndarray) -> np.ndarray:
        """Returns the table of each row class and pair of categories, (row classes * 25,)."""
        return tables.reshape(-1, self.classes)[:, self.seconds].ravel()


class _Machine(Protocol):
    starts: np.ndarray
    extras: np.ndarray
    lengths: np.ndarray


class Fixed:
    """Tables that are known before decoding starts.

    Args:
        plan: the order of work.
        tables: of each chunk, the place of each of its tables among the automata.
        cells: of each chunk, the cell of each symbol, or None for 0.
    """

    def __init__(
        self, plan: Schedule, tables: Sequence[np.ndarray], cells: Sequence[np.ndarray | None]
    ) -> None:
        if all(cell is None for cell in cells):
            self._records, self._last = None, np.array([places[0] for places in tables])[:, None]
            return
        symbols = [
            np.full(count, places[0]) if cell is None else places[cell]
            for cell, places, count in zip(cells, tables, plan.counts, strict=True)
        ]
        self._records, self._last = plan.spread(symbols)

    def tables(self, step: slice, live: int) -> np.ndarray:
        """Returns where the tables of one step start, (live, lanes) or (live, 1)."""
        return self._last[:live] if self._records is None else self._records[step]

    def last_tables(self) -> np.ndarray:
        """Returns the same for the last, partial step of all chunks."""
        return self._last

    def note(self, places: np.ndarray, bits: np.ndarray) -> None:
        """Takes note of the symbols of a step."""


class Nearby:
    """Tables that depend on symbols decoded before.

    Args:
        plan, tables, cells: as for `Fixed`; the cells without their second class.
        near: of each chunk, where its second classes come from.
        machine: the automata.
    """

    def __init__(
        self,
        plan: Schedule,
        tables: Sequence[np.ndarray],
        cells: Sequence[np.ndarray | None],
        near: Sequence[Neighbourhood],
        machine: _Machine,
    ) -> None:
        self._machine = machine
        self._extra_masks = (1 << machine.extras) - 1
        firsts = 1 + np.cumsum([0, *plan.counts[:-1]])
        self._own = firsts[:, None] + np.arange(plan.width)
        # Place 0 stands for every neighbour that is missing, of category 0.
        self._seen = np.zeros(1 + sum(plan.counts), np.uint8)
        self._categories = np.concatenate([n.categories for n in near])
        self._rows = 256 * np.arange(len(near))[:, None]
        around = [
            n.places(int(first), count)
            for n, first, count in zip(near, firsts, plan.counts, strict=True)
        ]
        self._left, self._last_left = plan.spread([left for left, _ in around])
        self._upper, self._last_upper = plan.spread([upper for _, upper in around])
        choices = [n.choices(places) for n, places in zip(near, tables, strict=True)]
        starts = np.cumsum([0, *map(len, choices[:-1])])
        symbols = [
            np.full(count, start)
            if cell is None
            else start + (cell // n.classes).astype(np.int64) * CATEGORIES**2
            for cell, n, start, count in zip(cells, near, starts, plan.counts, strict=True)
        ]
        self._slots, self._last_slots = plan.spread(symbols)
        self._choices = np.concatenate(choices)

    def tables(self, step: slice, live: int) -> np.ndarray:
        """Returns where the tables of one step start, (live, lanes)."""
        return self._choose(self._slots[step], self._left[step], self._upper[step])

    def last_tables(self) -> np.ndarray:
        """Returns the same for the last, partial step of all chunks."""
        return self._choose(self._last_slots, self._last_left, self._last_upper)

    def note(self, places: np.ndarray, bits: np.ndarray) -> None:
        """Remembers the categories of the symbols of a step."""
        live = len(places)
        codes = bits >> self._machine.lengths.take(places)
        codes &= self._extra_masks.take(places)
        codes += self._machine.starts.take(places)
        codes &= 255
        codes += self._rows[:live]
        self._seen[self._own[:live]] = self._categories.take(codes)
        self._own[:live] += self._own.shape[1]

    def _choose(self, slots: np.ndarray, left: np.ndarray, upper: np.ndarray) -> np.ndarray:
        return self._choices.take(
            slots + self._seen.take(left) + CATEGORIES * self._seen.take(upper)
        )
