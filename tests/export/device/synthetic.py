"""Containers that no encoder would choose: random tables, classes, shifts, widths; to compare."""

import hashlib
import zlib

import numpy as np

from tfqreg.export.container.encoder.tans import PlainChunk, encode_chunks
from tfqreg.export.container.format.cells import (
    Axis,
    Classes,
    Maps,
    categories,
    neighbour_contexts,
    row_and_second_cells,
)
from tfqreg.export.container.format.cursor import varint
from tfqreg.export.container.format.elements import (
    add_elements,
    pack_elements,
    to_codes,
    to_elements,
)
from tfqreg.export.container.format.index import Codec, Entry, chunk_counts, write_entry
from tfqreg.export.container.format.sections import SectionType, write_container
from tfqreg.export.container.format.spans import Span, SpanKind, write_span
from tfqreg.export.container.format.table import Table, write_table


def random_table(random: np.random.Generator, bits: int, low: int, high: int) -> Table:
    """Returns a table of the codes `low` to `high`, in bins of random widths and frequencies."""
    extras = []
    while sum(1 << extra for extra in extras) <= high - low:
        extras.append(
            int(random.integers(0, 4)) if random.random() < 0.3 or len(extras) > 100 else 0
        )
    weights = random.random(len(extras)) ** 6 + 1e-3
    frequencies = np.maximum((weights / weights.sum() * ((1 << bits) - len(extras))).astype(int), 1)
    peak = int(np.argmax(frequencies))
    frequencies[peak] += (1 << bits) - frequencies.sum()
    return Table(low, tuple(extras), tuple(frequencies.tolist()), peak, bits)


def _shape(random: np.random.Generator, axis: Axis) -> tuple[int, ...]:
    if axis == Axis.NEIGHBOURS:
        return (*random.integers(1, [40, 4, 4]).tolist(), int(random.integers(8, 80)))
    return tuple(random.integers(1, [90, 9, 9, 9][: random.integers(1, 5)]).tolist())


def _classes(random: np.random.Generator, axis: Axis) -> Classes:
    rows, seconds = int(random.integers(1, 5)), int(random.integers(2, 5)) if axis else 1
    return Classes(
        rows, axis, seconds, int(random.integers(0, 5)) if axis >= Axis.NEIGHBOURS else 0
    )


class Synthetic:
    """A `container` of `tensors` random tensors, its `output`, and the `base` of its deltas."""

    def __init__(self, seed: int, tensors: int = 4) -> None:
        self.random = np.random.default_rng(seed)
        self.base = self.random.bytes(60_000) if self.random.random() < 0.5 else b""
        self.tables: list[Table] = []
        parts = [self._tensor() for _ in range(tensors)]
        self.output = b"".join(data for _, data, _ in parts)
        sections = {
            SectionType.BASE: hashlib.sha256(self.base).digest() + varint(len(self.base))
            if self.base
            else b"",
            SectionType.POOL: b"".join(map(write_table, self.tables)),
            SectionType.INDEX: b"".join(write_entry(entry) for entry, _, _ in parts),
            SectionType.SKELETON: write_span(Span(SpanKind.TENSOR, 0)) * tensors,
            SectionType.CHUNKS: b"".join(coded for _, _, coded in parts),
        }
        self.container = write_container(
            len(self.output), hashlib.sha256(self.output).digest(), sections
        )

    def _add_tables(self, count: int, bits: int, low: int, high: int) -> list[int]:
        first = len(self.tables)
        self.tables += [random_table(self.random, bits, low, high) for _ in range(count)]
        return list(range(first, first + count))

    def _tensor(self) -> tuple[Entry, bytes, bytes]:
        random = self.random
        delta = bool(self.base) and random.random() < 0.5
        width = int(random.choice([2, 4, 8, 8, 16, 32]))
        axes = [Axis.NONE, Axis.COLUMNS] + (
            [Axis.BASE if delta else Axis.NEIGHBOURS] * 2 if width <= 8 else []
        )
        axis = Axis(axes[random.integers(len(axes))])
        shape, classes = _shape(random, axis), _classes(random, axis)
        shift = int(random.integers(0, width)) if random.random() < 0.3 else 0
        bits = int(random.integers(11, 13))
        high = int(random.integers(1, 2 ** min(width - 1, 7)))
        numbers = self._add_tables(classes.cells, bits, -high, high)
        entry = Entry(
            Codec.DELTA if delta else Codec.TANS,
            shape,
            width,
            0,
            shift,
            classes=classes,
            tables=tuple(numbers),
        )
        if delta:
            entry = self._with(
                entry, base=int(random.integers(0, len(self.base) - entry.output_bytes))
            )
        return self._code(entry, random.integers(-high, high + 1, entry.weights))

    @staticmethod
    def _with(entry: Entry, **changes: object) -> Entry:
        return Entry(**{**entry.__dict__, **changes})

    def _code(self, entry: Entry, codes: np.ndarray) -> tuple[Entry, bytes, bytes]:
        classes = entry.classes
        elements = to_elements(codes, entry.width, entry.shift)
        before = None
        if entry.codec == Codec.DELTA:
            stored = self.base[entry.base : entry.base + entry.output_bytes]
            before = to_codes(stored, entry.weights, entry.width, signed=False)
            elements = add_elements(elements, before, entry.width)
        data = pack_elements(elements, entry.width)
        cells, coded_map = None, b""
        if classes.cells > 1:
            cells, coded_map, entry = self._classify(entry, elements, before)
        ends = np.cumsum(chunk_counts(entry.shape, entry.chunk_log2))[:-1]
        tables = tuple(self.tables[number] for number in entry.tables)
        split = np.split(cells, ends) if cells is not None else [None] * (len(ends) + 1)
        chunks = [
            PlainChunk(part, tables, c)
            for part, c in zip(np.split(codes, ends), split, strict=True)
        ]
        coded = dict(encode_chunks(chunks))
        ordered = [coded[number] for number in range(len(chunks))]
        entry = self._with(entry, crc32=zlib.crc32(data), chunk_bytes=tuple(map(len, ordered)))
        return entry, data, coded_map + b"".join(ordered)

    def _classify(
        self, entry: Entry, elements: np.ndarray, before: np.ndarray | None
    ) -> tuple[np.ndarray | None, bytes, Entry]:
        classes, random = entry.classes, self.random
        row_entries, second_entries = classes.mapped(entry.shape)
        maps = Maps(
            random.integers(0, classes.rows, row_entries).astype(np.uint8),
            random.integers(0, classes.seconds, second_entries).astype(np.uint8),
        )
        contexts = None
        if classes.axis >= Axis.NEIGHBOURS:
            found = categories(classes.threshold, entry.width, entry.shift)
            mine = elements if before is None else before
            contexts = found[mine.astype(np.uint8)]
            if classes.axis == Axis.NEIGHBOURS:
                contexts = neighbour_contexts(contexts, entry.shape)
        cells = row_and_second_cells(classes, entry.shape, maps, contexts)
        (number,) = self._add_tables(1, int(random.integers(11, 13)), 0, 15)
        symbols = np.concatenate([maps.rows, maps.seconds]).astype(np.int64)
        coded = dict(encode_chunks([PlainChunk(symbols, (self.tables[number],))]))[0]
        return cells, coded, self._with(entry, map_table=number, map_bytes=len(coded))
