"""Decoding of tANS chunks with numpy: all states of all chunks advance in lock-step.

A chunk of n symbols is one bit stream, least significant bit first: the first state of each lane
(`bits` bits each), then for every symbol the bits its state reads and the extra bits of its bin,
then zeros to a whole byte. Every lane must end at state 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..format.bits import read_bits
from ..format.errors import damaged
from ..format.states import Schedule, automaton, groups, lanes
from ..format.table import Table
from .neighbours import Fixed, Nearby, Neighbourhood

PADDING = bytes(8)


@dataclass(frozen=True)
class CodedChunk:
    """One chunk to decode.

    Args:
        data: its bytes.
        count: symbols it holds, 1 or more.
        tables: what it was coded with, one a cell, alike in probability bits.
        cells: the cell of each symbol, uint8 (count,); without the second class where `near` is
            given. Default 0.
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


class _Machine:
    """The automata of several tables laid end to end, so that one gather serves every chunk."""

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
    """Yields the index and the codes, int64 (count,), of each chunk, in an order that suits the
    decoder.

    Raises:
        ContainerError: the data is short, long, or leaves a state other than 0.

    >>> chunk = CodedChunk(b"\\x00\\x50", 3, (Table(0, (1,), (4096,), 0),))
    >>> [(index, codes.tolist()) for index, codes in decode_chunks([chunk])]
    [(0, [1, 0, 1])]
    """
    for near in (False, True):
        alike = [index for index, chunk in enumerate(chunks) if (chunk.near is not None) == near]
        for group in groups([chunks[index].count for index in alike]):
            members = [alike[place] for place in group]
            yield from zip(
                members, _decode_group([chunks[index] for index in members]), strict=True
            )


def _decode_group(chunks: Sequence[CodedChunk]) -> Iterator[np.ndarray]:
    width = lanes(chunks[0].count)
    machine = _Machine(list(dict.fromkeys(table for chunk in chunks for table in chunk.tables)))
    data = np.frombuffer(b"".join([*(chunk.data for chunk in chunks), PADDING]), np.uint8)
    sizes = np.array([len(chunk.data) for chunk in chunks], np.int64)
    begins = 8 * (np.cumsum(sizes) - sizes)
    bits = np.array([chunk.tables[0].bits for chunk in chunks], np.int64)
    for chunk, need in zip(chunks, bits * width, strict=True):
        if 8 * len(chunk.data) < need:
            raise damaged(
                chunk.where,
                chunk.offset,
                f"a chunk of {len(chunk.data)} bytes is shorter than its states",
            )
    first = begins[:, None] + bits[:, None] * np.arange(width)
    states = read_bits(data, first.ravel(), np.repeat(bits, width)).reshape(-1, width)
    body = begins + bits * width
    positions = body[:, None].copy()
    history = _run(states, positions, data, chunks, machine)
    for row, chunk in enumerate(chunks):
        limit = int(begins[row] + 8 * sizes[row])
        _check_end(chunk, data, int(positions[row, 0]), limit, states[row])
        codes = machine.starts.take(history[row])
        if any(map(any, (table.extras for table in chunk.tables))):
            extra = machine.extras.take(history[row])
            ends = body[row] + np.cumsum(machine.consumed.take(history[row]))
            codes += read_bits(data, ends - extra, extra)
        yield codes


def _run(
    states: np.ndarray,
    positions: np.ndarray,
    data: np.ndarray,
    chunks: Sequence[CodedChunk],
    machine: _Machine,
) -> list[np.ndarray]:
    """Advances states (rows, lanes) and positions (rows, 1) in place to the end; returns the places
    visited.
    """
    width = states.shape[1]
    plan = Schedule([chunk.count for chunk in chunks], width)
    tables = [np.array([machine.offsets[table] for table in chunk.tables]) for chunk in chunks]
    near = [chunk.near for chunk in chunks if chunk.near]
    cells = [chunk.cells for chunk in chunks]
    chooser = Nearby(plan, tables, cells, near, machine) if near else Fixed(plan, tables, cells)
    windows = _windows(data, 8 if near else 3)
    history = np.empty((plan.records, width), np.int32)
    for first, live, steps in plan.runs:
        running, at = states[:live], positions[:live]
        for start in range(first, first + live * steps, live):
            places = history[start : start + live]
            np.add(
                running,
                chooser.tables(slice(start, start + live), live),
                out=places,
                casting="unsafe",
            )
            running, at, bits = _step(places, at, windows, machine)
            chooser.note(places, bits)
        states[:live], positions[:live] = running, at
    last = states + chooser.last_tables()
    if any(plan.tails):
        has_tail = np.arange(width) < np.array(plan.tails)[:, None]
        following, positions[:], _ = _step(last, positions, windows, machine, has_tail)
        states[:] = np.where(has_tail, following, states)
    return [
        np.append(history[plan.places(row)], last[row, :tail])
        for row, tail in enumerate(plan.tails)
    ]


def _windows(data: np.ndarray, size: int) -> np.ndarray:
    """Returns the `8 * size` bits that start at each byte.

    3 bytes hold the 12 bits of a state behind up to 7 that are skipped, 8 the 32 extra bits behind
    them as well.
    """
    windows = np.zeros(len(data) - len(PADDING) + 1, np.int32 if size < 4 else np.int64)
    for index in range(size):
        windows |= data[index : len(windows) + index].astype(windows.dtype) << (8 * index)
    return windows


def _step(
    places: np.ndarray,
    positions: np.ndarray,
    windows: np.ndarray,
    machine: _Machine,
    live: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the states and positions one symbol on, and the bits read; only lanes marked in
    `live` read any.
    """
    consumed = machine.consumed.take(places)
    if live is not None:
        consumed *= live
    ends = consumed.cumsum(axis=1)
    ends += positions
    starts = ends - consumed
    # A damaged chunk may run past the data: it reads the last window then, and is refused at its
    # end.
    bits = windows.take(starts >> 3, mode="clip") >> (starts & 7)
    following = bits & machine.masks.take(places)
    following += machine.bases.take(places)
    return following, ends[:, -1:], bits


def _check_end(
    chunk: CodedChunk, data: np.ndarray, end: int, limit: int, states: np.ndarray
) -> None:
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
