"""Decoding of tANS chunks with numpy: all lanes of all chunks advance together, in lock-step.

**One state.** A state stands for one symbol. It reads a few bits, which lead to the next state
(format/states.py says which). Take a table of 16 states in which symbol 0 has frequency 12 and
symbol 1 has 4. In the byte 22 = 0b01_0110 stand two symbols:

    bits 0-3 are 6   the first state: the second of symbol 1, so x = 5, which reads 2 bits
    bits 4-5 are 1   next state (5 << 2) - 16 + 1 = 5: the fifth of symbol 0, so x = 16, 0 bits
                     next state (16 << 0) - 16 = 0, where every chunk must end

**Lock-step.** Symbol by symbol this is slow in Python. So symbol j of a long chunk belongs to lane
j mod 8, each lane has a state of its own, and one step takes a symbol of every lane of every chunk:
a few numpy operations on arrays (chunks, lanes). The lanes of a chunk read one stream in turns, so
lane k reads after lanes 0 to k - 1, which a running sum over the lanes finds:

    states of two lanes      6    0   of a chunk that has read up to bit 100
    bits they read           2    1
    from bit               100  102   the next step reads from bit 103

A chunk of n symbols is one bit stream, least significant bit first: the first state of each lane
(`bits` bits each), then for every symbol the bits its state reads and the extra bits of its bin,
then zeros to a whole byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..format.bits import read_bits
from ..format.errors import damaged
from ..format.states import Schedule, automaton, groups, lanes
from ..format.table import Table
from .neighbours import KnownTables, Neighbourhood, NeighbourTables

# So that 8 bytes can be read from every byte of the data on.
PADDING = bytes(8)
# Bytes that hold a state's 12 bits after up to 7 skipped ones, and those that also hold 32 extra
# bits, which neighbours are told apart by. Fewer bytes are faster.
STATE_WINDOW_BYTES, CODE_WINDOW_BYTES = 3, 8


@dataclass(frozen=True)
class CodedChunk:
    """One chunk to decode.

    Args:
        data: its bytes.
        count: symbols it holds, 1 or more.
        tables: what it was coded with, one for each cell, alike in probability bits.
        cells: the cell of each symbol, uint8 (count,); without the second class if `near` is given.
            Default 0.
        near: where the second class comes from, if from decoded neighbours. Default none.
        where: name of the tensor, for messages.
        offset: of `data` in the file, for messages.
    """

    data: bytes | memoryview
    count: int
    tables: tuple[Table, ...]
    cells: np.ndarray | None = None
    near: Neighbourhood | None = None
    where: str = "chunk"
    offset: int = 0


class Automata:
    """The automata of several tables laid end to end, so that one gather serves every chunk.

    A `place` is a state plus where the automaton of its table starts. By place: `starts` and
    `extras` of the bin, `lengths` and `bases` of the step to the next state (states.py),
    `consumed` bits in all.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        automata = [automaton(table) for table in tables]
        offsets = np.cumsum([0, *(1 << table.bits for table in tables)])[:-1].tolist()
        self.offsets = dict(zip(tables, offsets, strict=True))
        self.starts = np.concatenate(
            [t.starts[a.symbols] for t, a in zip(tables, automata, strict=True)]
        )
        self.extras = np.concatenate(
            [np.array(t.extras)[a.symbols] for t, a in zip(tables, automata, strict=True)]
        )
        self.lengths = np.concatenate([a.lengths for a in automata])
        self.consumed = self.lengths + self.extras
        self.masks = (1 << self.lengths) - 1
        self.bases = np.concatenate([a.bases for a in automata])


def decode_chunks(chunks: Sequence[CodedChunk]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the index and the codes, int64 (count,), of each chunk, in any order.

    Raises:
        ContainerError: the data is short, long, or leaves a state other than 0.

    Example, the one above:
        >>> chunk = CodedChunk(bytes([22]), 2, (Table(0, (0, 0), (12, 4), 0, bits=4),))
        >>> [(index, codes.tolist()) for index, codes in decode_chunks([chunk])]
        [(0, [1, 0])]
    """
    for near in (False, True):
        alike = [index for index, chunk in enumerate(chunks) if (chunk.near is not None) == near]
        for group in groups([chunks[index].count for index in alike]):
            members = [alike[place] for place in group]
            yield from zip(
                members, _decode_group([chunks[index] for index in members]), strict=True
            )


def _decode_group(chunks: Sequence[CodedChunk]) -> Iterator[np.ndarray]:
    """Yields the codes of chunks that run in lock-step, the longest first."""
    width = lanes(chunks[0].count)
    automata = Automata(list(dict.fromkeys(table for chunk in chunks for table in chunk.tables)))
    data = np.frombuffer(b"".join([*(chunk.data for chunk in chunks), PADDING]), np.uint8)
    sizes = np.array([len(chunk.data) for chunk in chunks], np.int64)
    # All chunks stand in one array: the bit where each begins and, after its states, goes on.
    begins = 8 * (np.cumsum(sizes) - sizes)
    bits = np.array([chunk.tables[0].bits for chunk in chunks], np.int64)
    for chunk, need in zip(chunks, bits * width, strict=True):
        if 8 * len(chunk.data) < need:
            what = f"a chunk of {len(chunk.data)} bytes is shorter than its states"
            raise damaged(chunk.where, chunk.offset, what)
    first = begins[:, None] + bits[:, None] * np.arange(width)
    states = read_bits(data, first.ravel(), np.repeat(bits, width)).reshape(-1, width)
    body = begins + bits * width
    positions = body[:, None].copy()
    visited = _run(states, positions, data, chunks, automata)
    for row, chunk in enumerate(chunks):
        limit = int(begins[row] + 8 * sizes[row])
        _check_end(chunk, data, int(positions[row, 0]), limit, states[row])
        yield _codes(chunk, data, int(body[row]), visited[row], automata)


def _codes(
    chunk: CodedChunk, data: np.ndarray, body: int, places: np.ndarray, automata: Automata
) -> np.ndarray:
    """Returns the codes of the places visited by a chunk that goes on at bit `body`."""
    codes = automata.starts.take(places)
    if any(map(any, (table.extras for table in chunk.tables))):
        extra = automata.extras.take(places)
        ends = body + np.cumsum(automata.consumed.take(places))
        codes += read_bits(data, ends - extra, extra)
    return codes


def _run(
    states: np.ndarray,
    positions: np.ndarray,
    data: np.ndarray,
    chunks: Sequence[CodedChunk],
    automata: Automata,
) -> list[np.ndarray]:
    """Takes all steps of a group; returns the places that each chunk visits, in order.

    Args:
        states: of each lane, (chunks, lanes); changed in place to the last ones.
        positions: the bit that each chunk reads next, (chunks, 1); changed in place.
        data: the bytes of all chunks.
        chunks: longest first.
        automata: of their tables.
    """
    width = states.shape[1]
    plan = Schedule([chunk.count for chunk in chunks], width)
    offsets = [np.array([automata.offsets[table] for table in chunk.tables]) for chunk in chunks]
    near = [chunk.near for chunk in chunks if chunk.near]
    cells = [chunk.cells for chunk in chunks]
    if near:
        tables = NeighbourTables(plan, offsets, cells, near, automata)
    else:
        tables = KnownTables(plan, offsets, cells)
    windows = _windows(data, CODE_WINDOW_BYTES if near else STATE_WINDOW_BYTES)
    visited = np.empty((plan.records, width), np.int32)
    for first, live, steps in plan.runs:
        running, at = states[:live], positions[:live]
        for start in range(first, first + live * steps, live):
            step = slice(start, start + live)
            places = visited[step]
            np.add(running, tables.of_step(step, live), out=places, casting="unsafe")
            running, at, bits = _step(places, at, windows, automata)
            tables.note(places, bits)
        states[:live], positions[:live] = running, at
    last = states + tables.of_last_step()
    if any(plan.tails):
        has_tail = np.arange(width) < np.array(plan.tails)[:, None]
        following, positions[:], _ = _step(last, positions, windows, automata, has_tail)
        states[:] = np.where(has_tail, following, states)
    return [
        np.append(visited[plan.places(row)], last[row, :tail])
        for row, tail in enumerate(plan.tails)
    ]


def _windows(data: np.ndarray, size: int) -> np.ndarray:
    """Returns the `8 * size` bits that start at each byte."""
    windows = np.zeros(len(data) - len(PADDING) + 1, np.int32 if size < 4 else np.int64)
    for index in range(size):
        windows |= data[index : len(windows) + index].astype(windows.dtype) << (8 * index)
    return windows


def _step(
    places: np.ndarray,
    positions: np.ndarray,
    windows: np.ndarray,
    automata: Automata,
    live: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the states and positions one symbol on, and the bits that follow each old position.

    Args:
        places: of each lane, (chunks, lanes).
        positions: the bit that each chunk reads next, (chunks, 1).
        windows: the bits from each byte of the data on.
        automata: of the tables.
        live: lanes that read, (chunks, lanes). Default all.
    """
    consumed = automata.consumed.take(places)
    if live is not None:
        consumed *= live
    ends = consumed.cumsum(axis=1)
    ends += positions
    starts = ends - consumed
    # A damaged chunk may run past the data: it then reads the last window, and is refused at its
    # end.
    bits = windows.take(starts >> 3, mode="clip") >> (starts & 7)
    following = bits & automata.masks.take(places)
    following += automata.bases.take(places)
    return following, ends[:, -1:], bits


def _check_end(
    chunk: CodedChunk, data: np.ndarray, end: int, limit: int, states: np.ndarray
) -> None:
    """Refuses a chunk that ends in another state than 0, or not in its last byte before `limit`."""
    if not 0 <= limit - end < 8:
        bits = 8 * len(chunk.data)
        what = f"the symbols of a chunk of {bits} bits end at its bit {end - limit + bits}"
    elif limit > end and data[end >> 3] >> (end & 7):
        what = "the bits after a chunk's last symbol are not zero"
    elif states.any():
        what = f"a chunk ends in states {states.tolist()} instead of 0"
    else:
        return
    raise damaged(chunk.where, chunk.offset, what)
