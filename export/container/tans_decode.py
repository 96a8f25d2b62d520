"""Decoding of tANS chunks with numpy: all states of all chunks advance in lock-step.

A chunk of n symbols is one bit stream, least significant bit first: the first state of each lane (`bits` bits
each), then for every symbol the bits its state reads and the extra bits of its bin, then zeros to a whole
byte. Every lane must end at state 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .bits import read_bits
from .errors import damaged
from .states import Schedule, automaton, groups, lanes
from .table import Table

PADDING = bytes(8)


@dataclass(frozen=True)
class CodedChunk:
    """One chunk to decode.

    Args:
        data: its bytes.
        count: symbols it holds, 1 or more.
        table: what it was coded with.
        where: name of the tensor, for messages.
        offset: of `data` in the file, for messages.
    """

    data: bytes | memoryview
    count: int
    table: Table
    where: str = "chunk"
    offset: int = 0


class _Machine:
    """The automata of several tables laid end to end, so that one gather serves every chunk."""

    def __init__(self, tables: Sequence[Table]) -> None:
        automata = [automaton(table) for table in tables]
        sizes = [1 << table.bits for table in tables]
        offsets = np.cumsum([0, *sizes])[:-1].tolist()
        self.offsets = dict(zip(tables, offsets, strict=True))
        self.starts = np.concatenate([t.starts[a.symbols] for t, a in zip(tables, automata, strict=True)])
        self.extras = np.concatenate([np.array(t.extras)[a.symbols] for t, a in zip(tables, automata, strict=True)])
        self.lengths = np.concatenate([a.lengths for a in automata])
        self.consumed = self.lengths + self.extras
        self.masks = (1 << self.lengths) - 1
        self.bases = np.concatenate([a.bases + o for a, o in zip(automata, offsets, strict=True)])


def decode_chunks(chunks: Sequence[CodedChunk]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the index and the codes, int64 (count,), of each chunk, in an order that suits the decoder.

    Raises:
        ContainerError: the data is short, long, or leaves a state other than 0.

    >>> chunk = CodedChunk(b"\\x00\\x50", 3, Table(0, (1,), (4096,), 0))
    >>> [(index, codes.tolist()) for index, codes in decode_chunks([chunk])]
    [(0, [1, 0, 1])]
    """
    for group in groups([chunk.count for chunk in chunks]):
        yield from zip(group, _decode_group([chunks[index] for index in group]), strict=True)


def _decode_group(chunks: Sequence[CodedChunk]) -> Iterator[np.ndarray]:
    width = lanes(chunks[0].count)
    machine = _Machine(list(dict.fromkeys(chunk.table for chunk in chunks)))
    data = np.frombuffer(b"".join([*(chunk.data for chunk in chunks), PADDING]), np.uint8)
    sizes = np.array([len(chunk.data) for chunk in chunks], np.int64)
    begins = 8 * (np.cumsum(sizes) - sizes)
    lanes_ = np.arange(width)
    bits = np.array([chunk.table.bits for chunk in chunks], np.int64)
    offsets = np.array([machine.offsets[chunk.table] for chunk in chunks])
    for chunk, need in zip(chunks, bits * width, strict=True):
        if 8 * len(chunk.data) < need:
            raise damaged(chunk.where, chunk.offset, f"a chunk of {len(chunk.data)} bytes is shorter than its states")
    first = begins[:, None] + bits[:, None] * lanes_
    states = read_bits(data, first.ravel(), np.repeat(bits, width)).reshape(-1, width) + offsets[:, None]
    body = begins + bits * width
    positions = body[:, None].copy()
    history = _run(states, positions, data, [chunk.count for chunk in chunks], machine)
    for row, chunk in enumerate(chunks):
        limit = int(begins[row] + 8 * sizes[row])
        _check_end(chunk, data, int(positions[row, 0]), limit, states[row] - offsets[row])
        codes = machine.starts.take(history[row])
        if any(chunk.table.extras):
            extra = machine.extras.take(history[row])
            ends = body[row] + np.cumsum(machine.consumed.take(history[row]))
            codes += read_bits(data, ends - extra, extra)
        yield codes


def _run(
    states: np.ndarray, positions: np.ndarray, data: np.ndarray, counts: list[int], machine: _Machine
) -> list[np.ndarray]:
    """Advances states (rows, lanes) and positions (rows, 1) in place to the end; returns the states visited."""
    width = states.shape[1]
    windows = _windows(data)
    plan = Schedule(counts, width)
    history = np.empty((plan.records, width), np.int32)
    for first, live, steps in plan.runs:
        running, at = states[:live], positions[:live]
        for record in history[first : first + live * steps].reshape(steps, live, width):
            record[:] = running
            running, at = _step(running, at, windows, machine)
        states[:live], positions[:live] = running, at
    last = states.copy()
    if any(plan.tails):
        has_tail = np.arange(width) < np.array(plan.tails)[:, None]
        following, positions[:] = _step(states, positions, windows, machine, has_tail)
        states[:] = np.where(has_tail, following, states)
    return [np.append(history[plan.places(row)], last[row, :tail]) for row, tail in enumerate(plan.tails)]


def _windows(data: np.ndarray) -> np.ndarray:
    """Returns the 24 bits that start at each byte: the 12 of a state behind up to 7 that are skipped fit."""
    windows = np.zeros(len(data) - 2, np.int32)
    for index in range(3):
        windows |= data[index : len(data) - 2 + index].astype(np.int32) << (8 * index)
    return windows


def _step(
    states: np.ndarray, positions: np.ndarray, windows: np.ndarray, machine: _Machine, live: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns states and positions one symbol on; only lanes marked in `live` (rows, lanes) then read bits."""
    consumed = machine.consumed.take(states)
    if live is not None:
        consumed *= live
    ends = consumed.cumsum(axis=1)
    ends += positions
    starts = ends - consumed
    # A damaged chunk may run past the data: it reads the last window then, and is refused at its end.
    following = windows.take(starts >> 3, mode="clip") >> (starts & 7)
    following &= machine.masks.take(states)
    following += machine.bases.take(states)
    return following, ends[:, -1:]


def _check_end(chunk: CodedChunk, data: np.ndarray, end: int, limit: int, states: np.ndarray) -> None:
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
