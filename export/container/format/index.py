"""The INDEX section: one entry for every coded tensor, in the order of the TENSOR spans.

    u8      codec (bits 0-3: 0 RAW, 1 CONST, 2 TANS, 3 DELTA), rank 1 to 8 (bits 4-7)
    u8      log2 of the element's bits, 1 to 6 (bits 0-2), shift of the codes (bits 3-7)
    varint  each dimension, at least 1
    u32     crc32 of the tensor's bytes in the output
    DELTA:  varint  place of the same tensor in the base
    TANS, DELTA:
        u8      form: log2(chunk limit) - 16, 0 to 4 (bits 0-3), row classes (bit 4), second axis
                (bits 5-6)
        u8      with row classes: how many, 2 to 16
        u8      with a second axis: how many classes, 2 to 16
        u8      with NEIGHBOURS or BASE: threshold
        u8      with row classes or a second axis: table of the map
        varint  with either: bytes of the map
        u8      table of each cell
        varint  bytes of each chunk

The coded bytes of all tensors follow each other in CHUNKS. RAW is the bytes themselves, CONST one
element (a byte at least) that fills the tensor. A TANS tensor is cut into chunks of whole rows (all
but its first axis), as many as fit the chunk limit, or of exactly the limit if one row is longer;
the last chunk holds what is left. Its map, if it has classes, is one more chunk before them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from math import prod

from .cells import (
    MAX_CELLS,
    MAX_CLASSES,
    MAX_MAPPED,
    MAX_THRESHOLD,
    MIN_NEIGHBOUR_COLUMNS,
    Axis,
    Classes,
)
from .cursor import Reader, varint
from .elements import tensor_bytes
from .table import Table

# So that a shape has a fixed place in the structs of the C decoder.
MAX_RANK = 8
# Chunks of 2**16 weights and more: shorter ones would spend more on their first states.
MIN_CHUNK_LOG2, MAX_CHUNK_LOG2 = 16, 20
# What the automata of one tensor may take: 32 tables of 12 bits, half a megabyte in C.
MAX_STATES = 1 << 17
# The codes of a map's table fit a byte, as the C decoder keeps them.
MAX_MAP_CODE = 1 << 8
# Where the form byte has the row classes and the second axis.
ROWS_BIT, AXIS_SHIFT = 4, 5
NO_CLASSES = Classes()


class Codec(IntEnum):
    """How a tensor's bytes are stored."""

    RAW = 0
    CONST = 1
    TANS = 2
    DELTA = 3


@dataclass(frozen=True)
class Entry:
    """One coded tensor.

    Args:
        codec: how it is stored.
        shape: its dimensions; (bytes,) if the file gives none that fit.
        width: bits of an element: 2, 4, 8, 16, 32 or 64.
        crc32: of its bytes in the output.
        shift: bits that its codes are shifted up by (TANS, DELTA). Default 0.
        base: place of the same tensor in the base (DELTA). Default 0.
        chunk_log2: log2 of the most weights in a chunk (TANS, DELTA). Default 16.
        classes: how its weights are told apart (TANS, DELTA). Default not at all.
        map_table: number of the table of the map, if it has classes. Default 0.
        map_bytes: size of the map, if it has classes. Default 0.
        tables: number of the table of each cell (TANS, DELTA). Default none.
        chunk_bytes: size of each chunk (TANS, DELTA). Default none.
    """

    codec: Codec
    shape: tuple[int, ...]
    width: int
    crc32: int
    shift: int = 0
    base: int = 0
    chunk_log2: int = MIN_CHUNK_LOG2
    classes: Classes = NO_CLASSES
    map_table: int = 0
    map_bytes: int = 0
    tables: tuple[int, ...] = ()
    chunk_bytes: tuple[int, ...] = ()

    @property
    def weights(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def output_bytes(self) -> int:
        """Size in the output, in bytes."""
        return tensor_bytes(self.shape, self.width)

    @property
    def coded_bytes(self) -> int:
        """Size in the CHUNKS section, in bytes."""
        if self.codec == Codec.RAW:
            return self.output_bytes
        return (
            max(self.width // 8, 1)
            if self.codec == Codec.CONST
            else self.map_bytes + sum(self.chunk_bytes)
        )


def chunk_counts(shape: tuple[int, ...], chunk_log2: int) -> list[int]:
    """Returns the number of weights in each chunk of a tensor.

    >>> chunk_counts((3, 40000), 16)
    [40000, 40000, 40000]
    """
    count, row, limit = prod(shape), prod(shape[1:]), 1 << chunk_log2
    step = limit // row * row if row <= limit else limit
    return [min(step, count - start) for start in range(0, count, step)]


def write_entry(entry: Entry) -> bytes:
    """Returns the stored form of `entry`."""
    log2_width = entry.width.bit_length() - 1
    out = bytearray([entry.codec | len(entry.shape) << 4, log2_width | entry.shift << 3])
    out += b"".join(varint(size) for size in entry.shape) + struct.pack("<I", entry.crc32)
    if entry.codec < Codec.TANS:
        return bytes(out)
    if entry.codec == Codec.DELTA:
        out += varint(entry.base)
    classes = entry.classes
    out.append(
        entry.chunk_log2 - MIN_CHUNK_LOG2
        | (classes.rows > 1) << ROWS_BIT
        | classes.axis << AXIS_SHIFT
    )
    if classes.rows > 1:
        out.append(classes.rows)
    if classes.axis:
        out.append(classes.seconds)
    if classes.axis >= Axis.NEIGHBOURS:
        out.append(classes.threshold)
    if classes.cells > 1:
        out += bytes([entry.map_table]) + varint(entry.map_bytes)
    return bytes(out) + bytes(entry.tables) + b"".join(varint(size) for size in entry.chunk_bytes)


def read_entry(
    reader: Reader, output_bytes: int, tables: Sequence[Table], base_bytes: int | None = None
) -> Entry:
    """Reads one entry; refuses a tensor larger than the output, and impossible fields."""
    codec, rank = _split(reader.u8(), 4)
    log2_width, shift = _split(reader.u8(), 3)
    width = 1 << log2_width
    if codec not in Codec._value2member_map_:
        raise reader.error(f"codec {codec} is unknown", "Update tfqreg.")
    if not (1 <= rank <= MAX_RANK and 2 <= width <= 64 and shift < width):
        raise reader.error(f"a tensor of rank {rank}, {width} bits and shift {shift} is impossible")
    if codec < Codec.TANS and shift:
        raise reader.error(f"a {Codec(codec).name} tensor has shift {shift} instead of 0")
    shape = tuple(reader.varint() for _ in range(rank))
    size = tensor_bytes(shape, width)
    if not 0 < size <= output_bytes:
        raise reader.error(
            f"a tensor of shape {shape} and {width} bits has {size} bytes, the output "
            f"{output_bytes}"
        )
    crc32 = reader.u32()
    if codec < Codec.TANS:
        return Entry(Codec(codec), shape, width, crc32)
    if width > 32:
        raise reader.error(
            f"a {Codec(codec).name} tensor has elements of {width} bits, 32 at most are possible"
        )
    base = 0
    if codec == Codec.DELTA:
        base = reader.varint()
        if base_bytes is None:
            raise reader.error("a DELTA tensor stands in a container without BASE")
        if base + size > base_bytes:
            raise reader.error(
                f"a DELTA tensor reads base bytes {base} to {base + size} of {base_bytes}"
            )
    return _read_tables(reader, Entry(Codec(codec), shape, width, crc32, shift, base), tables)


def _read_tables(reader: Reader, entry: Entry, tables: Sequence[Table]) -> Entry:
    """Reads what only TANS and DELTA have: classes, map, tables and the sizes of chunks."""
    chunk_log2, classes = _read_classes(reader, entry)
    map_table = map_bytes = 0
    if classes.cells > 1:
        map_table, map_bytes = _table_number(reader, tables), reader.varint()
        if not 0 <= tables[map_table].first <= tables[map_table].end <= MAX_MAP_CODE:
            raise reader.error(
                f"table {map_table} of a map reaches beyond codes 0 to {MAX_MAP_CODE - 1}"
            )
    numbers = tuple(_table_number(reader, tables) for _ in range(classes.cells))
    different = set(numbers)
    bits = {tables[number].bits for number in different}
    if len(bits) > 1:
        raise reader.error("the tables of a tensor differ in probability bits")
    if len(different) << bits.pop() > MAX_STATES:
        raise reader.error(
            f"the {len(different)} tables of a tensor have more than {MAX_STATES} states"
        )
    return replace(
        entry,
        chunk_log2=chunk_log2,
        classes=classes,
        map_table=map_table,
        map_bytes=map_bytes,
        tables=numbers,
        chunk_bytes=tuple(reader.varint() for _ in chunk_counts(entry.shape, chunk_log2)),
    )


def _read_classes(reader: Reader, entry: Entry) -> tuple[int, Classes]:
    """Reads the form and what it announces; returns log2 of the chunk limit, and the classes."""
    limit, flags = _split(reader.u8(), ROWS_BIT)
    chunk_log2 = limit + MIN_CHUNK_LOG2
    if chunk_log2 > MAX_CHUNK_LOG2:
        raise reader.error(
            f"the chunk limit is 2**{chunk_log2}, 2**{MAX_CHUNK_LOG2} at most is possible"
        )
    if flags >> 3:
        raise reader.error("bit 7 of a tensor's form is set", "Update tfqreg.")
    axis = Axis(flags >> 1)
    rows = _class_count(reader) if flags & 1 else 1
    seconds = _class_count(reader) if axis else 1
    threshold = reader.u8() if axis >= Axis.NEIGHBOURS else 0
    classes = Classes(rows, axis, seconds, threshold)
    _check_classes(reader, classes, entry, 1 << chunk_log2)
    return chunk_log2, classes


def _class_count(reader: Reader) -> int:
    count = reader.u8()
    if not 2 <= count <= MAX_CLASSES:
        raise reader.error(f"a tensor has {count} classes; 2 to {MAX_CLASSES} are possible")
    return count


def _check_classes(reader: Reader, classes: Classes, entry: Entry, chunk_limit: int) -> None:
    """Refuses classes that a tensor of this shape and codec cannot have."""
    axis, shape = classes.axis, entry.shape
    if classes.cells > MAX_CELLS:
        raise reader.error(f"a tensor has {classes.cells} cells, {MAX_CELLS} at most are possible")
    if max(classes.mapped(shape)) > MAX_MAPPED:
        raise reader.error(f"a map of a tensor of shape {shape} has more than {MAX_MAPPED} entries")
    if axis >= Axis.NEIGHBOURS:
        if entry.width > 8 or classes.threshold > MAX_THRESHOLD:
            raise reader.error(
                f"elements of {entry.width} bits and threshold {classes.threshold} have no "
                "categories"
            )
        if axis != (Axis.NEIGHBOURS if entry.codec == Codec.TANS else Axis.BASE):
            raise reader.error(f"a {entry.codec.name} tensor has classes by {axis.name}")
    if axis == Axis.NEIGHBOURS:
        fits = (
            len(shape) == 4
            and shape[3] >= MIN_NEIGHBOUR_COLUMNS
            and shape[2] * shape[3] <= MAX_MAPPED
        )
        if not fits or prod(shape[1:]) > chunk_limit:
            raise reader.error(
                f"a tensor of shape {shape} in chunks of {chunk_limit} cannot have neighbours"
            )


def _table_number(reader: Reader, tables: Sequence[Table]) -> int:
    number = reader.u8()
    if number >= len(tables):
        raise reader.error(f"table {number} is named, POOL has {len(tables)}")
    return number


def _split(byte: int, low: int) -> tuple[int, int]:
    """Returns the low `low` bits of a byte, and the rest."""
    return byte & ((1 << low) - 1), byte >> low
