"""Which table the next symbol of each lane takes, for the lock-step decoder in tans.py.

`KnownTables`: with one table, or with classes by row, column or base, all tables are known before
decoding starts. `NeighbourTables`: with classes by neighbours, a weight's table depends on the
weights to its left and above it in the kernel, so on symbols decoded before.

In shape (O, H, W, I) the left neighbour of weight j is j - I and the upper one j - W I. I is at
least 8, the number of lanes, so the weights of one step never wait for each other. By hand, with
8 lanes, for a kernel (1, 1, 2, 8), threshold 1, and what `NeighbourTables` remembers in `seen`:

    step 1   weights 0-7, no neighbours: pair of categories (0, 0), so second class seconds[0]
             decoded:                          0  2  0 -1  0  0  1  0
             their categories go into `seen`:  0  2  0  3  0  0  1  0
    step 2   weights 8-15, left neighbours 0-7, none above:
             second classes                    seconds[0], seconds[2], seconds[0], seconds[3], ...
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
        """Returns the places of the left and upper neighbours of `count` weights from `first` on.

        A missing neighbour has place 0.
        """
        own = np.arange(first, first + count)
        has_left, has_upper = (np.tile(has, count // len(has)) for has in neighbours(self.shape))
        columns = self.shape[3]
        return (
            np.where(has_left, own - columns, 0),
            np.where(has_upper, own - columns * self.shape[2], 0),
        )

    def choices(self, tables: np.ndarray) -> np.ndarray:
        """Returns the table of each row class and pair of categories, (row classes * 25,)."""
        return tables.reshape(-1, self.classes)[:, self.seconds].ravel()


class _Automata(Protocol):
    starts: np.ndarray
    extras: np.ndarray
    lengths: np.ndarray


class KnownTables:
    """Tables that are known before decoding starts.

    Args:
        plan: the order of work.
        tables: of each chunk, where the automaton of each of its tables starts.
        cells: of each chunk, the cell of each symbol, or None for 0.
    """

    def __init__(
        self, plan: Schedule, tables: Sequence[np.ndarray], cells: Sequence[np.ndarray | None]
    ) -> None:
        if all(cell is None for cell in cells):
            self._records, self._last = None, np.array([starts[0] for starts in tables])[:, None]
            return
        symbols = [
            np.full(count, starts[0]) if cell is None else starts[cell]
            for cell, starts, count in zip(cells, tables, plan.counts, strict=True)
        ]
        self._records, self._last = plan.spread(symbols)

    def of_step(self, step: slice, live: int) -> np.ndarray:
        """Returns where the automata of one step start, (live, lanes) or (live, 1)."""
        return self._last[:live] if self._records is None else self._records[step]

    def of_last_step(self) -> np.ndarray:
        """Returns the same for the last, partial step of all chunks."""
        return self._last

    def note(self, places: np.ndarray, bits: np.ndarray) -> None:
        """Does nothing: no table depends on the symbols of a step."""


class NeighbourTables:
    """Tables that depend on symbols decoded before.

    Args:
        plan, tables, cells: as for `KnownTables`; the cells without their second class.
        near: of each chunk, where its second classes come from.
        automata: of all tables.
    """

    def __init__(
        self,
        plan: Schedule,
        tables: Sequence[np.ndarray],
        cells: Sequence[np.ndarray | None],
        near: Sequence[Neighbourhood],
        automata: _Automata,
    ) -> None:
        self._automata = automata
        self._extra_masks = (1 << automata.extras) - 1
        # The category of every weight of every chunk, once it is decoded. Place 0 stands for every
        # neighbour that is missing, of category 0.
        self._seen = np.zeros(1 + sum(plan.counts), np.uint8)
        firsts = 1 + np.cumsum([0, *plan.counts[:-1]])
        self._own = firsts[:, None] + np.arange(plan.width)
        self._categories = np.concatenate([n.categories for n in near])
        self._rows = 256 * np.arange(len(near))[:, None]
        around = [
            n.places(int(first), count)
            for n, first, count in zip(near, firsts, plan.counts, strict=True)
        ]
        self._left, self._last_left = plan.spread([left for left, _ in around])
        self._upper, self._last_upper = plan.spread([upper for _, upper in around])
        # A symbol's slot is where the 25 choices of its row class start.
        choices = [n.choices(starts) for n, starts in zip(near, tables, strict=True)]
        starts = np.cumsum([0, *map(len, choices[:-1])])
        slots = [
            np.full(count, start)
            if cell is None
            else start + (cell // n.classes).astype(np.int64) * CATEGORIES**2
            for cell, n, start, count in zip(cells, near, starts, plan.counts, strict=True)
        ]
        self._slots, self._last_slots = plan.spread(slots)
        self._choices = np.concatenate(choices)

    def of_step(self, step: slice, live: int) -> np.ndarray:
        """Returns where the automata of one step start, (live, lanes)."""
        return self._choose(self._slots[step], self._left[step], self._upper[step])

    def of_last_step(self) -> np.ndarray:
        """Returns the same for the last, partial step of all chunks."""
        return self._choose(self._last_slots, self._last_left, self._last_upper)

    def note(self, places: np.ndarray, bits: np.ndarray) -> None:
        """Remembers the categories of the symbols of a step.

        Args:
            places: of the states that stood for them, (live, lanes).
            bits: what these states read, the extra bits of their symbols above.
        """
        live = len(places)
        codes = bits >> self._automata.lengths.take(places)
        codes &= self._extra_masks.take(places)
        codes += self._automata.starts.take(places)
        codes &= 255
        codes += self._rows[:live]
        self._seen[self._own[:live]] = self._categories.take(codes)
        self._own[:live] += self._own.shape[1]

    def _choose(self, slots: np.ndarray, left: np.ndarray, upper: np.ndarray) -> np.ndarray:
        pairs = self._seen.take(left) + CATEGORIES * self._seen.take(upper)
        return self._choices.take(slots + pairs)
