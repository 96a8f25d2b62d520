"""The tANS automaton of a table, and the order in which chunks run through their automata.

States 0 to M-1, M = 2**bits, stand for the numbers M to 2M-1. Symbols are spread over them by
walking in steps of M/2 + M/8 + 3, odd and so coprime to M. The states of a symbol of frequency f,
in ascending order, get the numbers x = f, f+1, ..., 2f-1: a decoder that meets state s emits its
symbol, reads `bits - floor(log2 x)` bits, and goes to state `(x << that many bits) - M + bits
read`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .table import Table

# In C, 16 states or two streams were slower than 8 states on one stream.
MAX_LANES = 8
# From here on 8 states of 12 bits, 12 bytes, are few beside a chunk.
LANES_FROM = 2048
# Bounds the memory of a group: each of its arrays has 4 or 8 bytes per symbol.
GROUP_SYMBOLS = 1 << 23


@dataclass(frozen=True)
class Automaton:
    """What each state means, int64 (M,) each.

    Args:
        symbols: what it stands for.
        lengths: the bits it reads.
        bases: what these bits are added to, to give the next state.
        order: the states by symbol, those of one symbol ascending.

    >>> int(automaton(Table(0, (0,), (4096,), 0)).lengths.max())
    0
    """

    symbols: np.ndarray
    lengths: np.ndarray
    bases: np.ndarray
    order: np.ndarray


def automaton(table: Table) -> Automaton:
    """Builds the automaton of `table`."""
    size = 1 << table.bits
    frequencies = np.array(table.frequencies, np.int64)
    step = size // 2 + size // 8 + 3
    symbols = np.empty(size, np.int64)
    symbols[np.arange(size) * step % size] = np.repeat(np.arange(len(frequencies)), frequencies)
    order = np.argsort(symbols, kind="stable")
    firsts = np.cumsum(frequencies) - frequencies
    numbers = np.empty(size, np.int64)
    numbers[order] = np.arange(size) - np.repeat(firsts - frequencies, frequencies)
    # frexp gives the bit length exactly: numbers are far below 2**53.
    lengths = table.bits + 1 - np.frexp(numbers)[1].astype(np.int64)
    return Automaton(symbols, lengths, (numbers << lengths) - size, order)


def lanes(weights: int) -> int:
    """Returns how many states a chunk of `weights` symbols interleaves.

    Symbol j uses state `j % lanes`. Eight keep a processor busy, but each costs its 11 or 12 bits
    per chunk, which a small one cannot afford.

    >>> lanes(500), lanes(65536)
    (1, 8)
    """
    return MAX_LANES if weights >= LANES_FROM else 1


def groups(counts: Sequence[int]) -> Iterator[list[int]]:
    """Splits chunks of `counts` symbols into groups that run in lock-step, as lists of indices.

    A group has one number of lanes and a bounded size, and lists the longest chunk first, so that
    those still running are always its first ones.

    >>> list(groups([10, 4096, 20]))
    [[2, 0], [1]]
    """
    longest_first = sorted(range(len(counts)), key=lambda index: -counts[index])
    for width in (1, MAX_LANES):
        group: list[int] = []
        size = 0
        for index in longest_first:
            if lanes(counts[index]) != width:
                continue
            if group and size + counts[index] > GROUP_SYMBOLS:
                yield group
                group, size = [], 0
            group.append(index)
            size += counts[index]
        if group:
            yield group


class Schedule:
    """The order of work on a group of chunks that advance in lock-step.

    A step moves all lanes of each chunk with a full row of symbols left. With one record for every
    step of every chunk, step by step, chunk c has the records `places(c)`. A run (first record,
    live chunks, steps) covers the steps in which the same first chunks take part. The `tails[c]`
    symbols left over are one more, partial step.

    For chunks of 25 and 8 symbols in 8 lanes, with records 0 to 3:

        step 1   record 0: symbols 0-7 of chunk 0     record 1: symbols 0-7 of chunk 1
        step 2   record 2: symbols 8-15 of chunk 0
        step 3   record 3: symbols 16-23 of chunk 0
        last     symbol 24 of chunk 0 is its tail

    Args:
        counts: symbols of each chunk, longest first.
        width: lanes of each.

    >>> plan = Schedule([25, 8], 8)
    >>> plan.runs, plan.places(0).tolist(), plan.tails
    ([(0, 2, 1), (2, 1, 2)], [0, 2, 3], [1, 0])
    """

    def __init__(self, counts: Sequence[int], width: int) -> None:
        self.counts, self.width = list(counts), width
        self.full = [count // width for count in counts]
        self.tails = [count % width for count in counts]
        self.records = sum(self.full)
        self.runs: list[tuple[int, int, int]] = []
        first = done = 0
        for live in range(len(counts), 0, -1):
            steps = self.full[live - 1] - done
            if steps:
                self.runs.append((first, live, steps))
                first += live * steps
                done += steps

    def places(self, chunk: int) -> np.ndarray:
        """The records of one chunk, in order, int64 (full steps,)."""
        parts = [
            first + chunk + live * np.arange(steps)
            for first, live, steps in self.runs
            if live > chunk
        ]
        return np.concatenate(parts)

    def spread(self, values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Lays out one value per symbol in the order of work.

        Returns:
            Those of full steps, int32 (records, lanes), and of the partial step, int32 (chunks,
            lanes), 0 where a chunk has no symbol left.
        """
        records = np.empty((self.records, self.width), np.int32)
        last = np.zeros((len(values), self.width), np.int32)
        for chunk, tail in enumerate(self.tails):
            whole = self.full[chunk] * self.width
            if whole:
                records[self.places(chunk)] = values[chunk][:whole].reshape(-1, self.width)
            last[chunk, :tail] = values[chunk][whole:]
        return records, last
