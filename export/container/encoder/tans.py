"""Encoding of tANS chunks with numpy: the mirror of decoder/tans.py, from last symbol to first.

A lane starts at state 0, which is where the decoder must end. Going from state s (number x = M + s)
to a symbol of frequency f writes the low n bits of x, n chosen so that f <= x >> n < 2f, and
continues at the state whose number is `x >> n`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..format.bits import pack_bits
from ..format.states import Schedule, automaton, groups, lanes
from ..format.table import Table


@dataclass(frozen=True)
class PlainChunk:
    """One chunk to encode.

    Args:
        codes: integers (count,), at least one.
        tables: one for each cell, alike in probability bits, with a used bin for each of its codes.
        cells: the cell of each code, uint8 (count,). Default 0.
    """

    codes: np.ndarray
    tables: tuple[Table, ...]
    cells: np.ndarray | None = None


class _Automata:
    """What encoding needs of several tables, their symbols numbered through."""

    def __init__(self, tables: Sequence[Table]) -> None:
        automata = [automaton(table) for table in tables]
        sizes = np.array([1 << table.bits for table in tables], np.int64)
        counts = np.array([len(table.frequencies) for table in tables], np.int64)
        self.firsts = dict(zip(tables, np.cumsum(counts) - counts, strict=True))
        frequencies = np.concatenate([np.array(table.frequencies, np.int64) for table in tables])
        used = np.maximum(frequencies, 1)
        self.max_lengths = (
            np.repeat([table.bits for table in tables], counts) + 1 - np.frexp(used)[1]
        )
        # From this number on, max_lengths bits are written; below, one bit less.
        self.thresholds = used << self.max_lengths
        # order[shifts + (x >> n)] is the state (in its table) whose number is x >> n.
        self.shifts = np.cumsum(frequencies) - 2 * frequencies
        self.order = np.concatenate(
            [a.order + size for a, size in zip(automata, sizes, strict=True)]
        )


def encode_chunks(chunks: Sequence[PlainChunk]) -> Iterator[tuple[int, bytes]]:
    """Yields the index and the bytes of each chunk, in the layout `decode_chunks` reads.

    >>> chunk = PlainChunk(np.array([1, 0, 1]), (Table(0, (1,), (4096,), 0),))
    >>> [(index, data.hex()) for index, data in encode_chunks([chunk])]
    [(0, '0050')]
    """
    for group in groups([len(chunk.codes) for chunk in chunks]):
        yield from zip(group, _encode_group([chunks[index] for index in group]), strict=True)


def split_codes(codes: np.ndarray, table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (bin, offset inside the bin, extra bits) of each code, int64 (count,) each.

    >>> [a.tolist() for a in split_codes(np.array([0, 3]), Table(0, (0, 2), (2048, 2048), 0))]
    [[0, 1], [0, 2], [0, 2]]
    """
    starts = table.starts
    bins = np.searchsorted(starts, codes, side="right") - 1
    return bins, codes - starts[bins], np.array(table.extras, np.int64)[bins]


def _encode_group(chunks: Sequence[PlainChunk]) -> Iterator[bytes]:
    width = lanes(len(chunks[0].codes))
    automata = _Automata(list(dict.fromkeys(table for chunk in chunks for table in chunk.tables)))
    parts = [_split_chunk(chunk, automata) for chunk in chunks]
    sizes = np.array([1 << chunk.tables[0].bits for chunk in chunks], np.int64)
    numbers, values, lengths = _run(
        [part[0] for part in parts], np.repeat(sizes[:, None], width, axis=1), automata
    )
    for row, (_, offsets, extras) in enumerate(parts):
        low = lengths[row]
        body = (values[row] | offsets << low).astype(np.uint64)
        states = (numbers[row] - sizes[row]).astype(np.uint64)
        widths = np.concatenate([np.full(width, chunks[row].tables[0].bits), low + extras])
        yield pack_bits(np.concatenate([states, body]), widths)


def _split_chunk(
    chunk: PlainChunk, automata: _Automata
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (symbol, offset inside the bin, extra bits) of each code, int64 (count,) each."""
    if chunk.cells is None:
        bins, offsets, extras = split_codes(chunk.codes, chunk.tables[0])
        return bins + automata.firsts[chunk.tables[0]], offsets, extras
    whole = np.empty((3, len(chunk.codes)), np.int64)
    for table in dict.fromkeys(chunk.tables):
        members = np.flatnonzero(np.array([t == table for t in chunk.tables])[chunk.cells])
        whole[:, members] = split_codes(chunk.codes[members], table)
        whole[0, members] += automata.firsts[table]
    return whole[0], whole[1], whole[2]


def _run(
    symbols: list[np.ndarray], numbers: np.ndarray, automata: _Automata
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Takes all steps of a group, from the last to the first.

    Args:
        symbols: of each chunk, longest first.
        numbers: of each lane, at the end of its chunk, (chunks, lanes); changed in place.
        automata: what encoding needs of the tables.

    Returns:
        The first number of each lane, (chunks, lanes), and of each chunk the bits that its symbols
        write and how many they are.
    """
    width = numbers.shape[1]
    plan = Schedule([len(chunk) for chunk in symbols], width)
    tails = [
        _step(numbers[row, : plan.tails[row]], chunk[len(chunk) - plan.tails[row] :], automata)
        for row, chunk in enumerate(symbols)
    ]
    ordered = np.empty((plan.records, width), np.int32)
    for row, chunk in enumerate(symbols):
        ordered[plan.places(row)] = chunk[: len(chunk) - plan.tails[row]].reshape(-1, width)
    # At most 12 bits are written at a time.
    values = np.empty(ordered.shape, np.uint16)
    lengths = np.empty(ordered.shape, np.uint8)
    for first, live, steps in reversed(plan.runs):
        running = numbers[:live]
        for start in range(first + live * (steps - 1), first - 1, -live):
            step = slice(start, start + live)
            values[step], lengths[step] = _step(running, ordered[step], automata)
    return (
        numbers,
        [np.append(values[plan.places(row)], tail) for row, (tail, _) in enumerate(tails)],
        [np.append(lengths[plan.places(row)], tail) for row, (_, tail) in enumerate(tails)],
    )


def _step(
    numbers: np.ndarray, symbols: np.ndarray, automata: _Automata
) -> tuple[np.ndarray, np.ndarray]:
    """Takes each number back over one symbol, in place; returns the bits written and how many."""
    lengths = automata.max_lengths.take(symbols)
    lengths -= numbers < automata.thresholds.take(symbols)
    values = numbers & ((1 << lengths) - 1)
    numbers >>= lengths
    numbers += automata.shifts.take(symbols)
    numbers[:] = automata.order.take(numbers)
    return values, lengths
