"""The INDEX section: one entry for every coded tensor, in the order of the TENSOR spans.

    u8      codec (bits 0-3: 0 RAW, 1 CONST, 2 TANS), rank 1 to 8 (bits 4-7)
    u8      log2 of the element's bits, 1 to 6 (bits 0-2), shift of the codes (bits 3-7)
    varint  each dimension, at least 1
    u32     crc32 of the tensor's bytes in the output
    TANS:   varint  table, counted from 0 in POOL
            u8      log2(chunk limit) - 16, 0 to 4 (bits 0-3); bits 4-7 are zero
            varint  bytes of each chunk

The coded bytes of all tensors follow each other in CHUNKS. RAW is the bytes themselves, CONST one element (a
byte at least) that fills the tensor. A TANS tensor is cut into chunks of whole rows (all but its first axis),
as many as fit the chunk limit, or of exactly the limit where one row is longer; the last chunk holds what is
left.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from math import prod

from .cursor import Reader, varint
from .elements import tensor_bytes

MAX_RANK = 8
MIN_CHUNK_LOG2, MAX_CHUNK_LOG2 = 16, 20


class Codec(IntEnum):
    """How a tensor's bytes are stored."""

    RAW = 0
    CONST = 1
    TANS = 2


@dataclass(frozen=True)
class Entry:
    """One coded tensor.

    Args:
        codec: how it is stored.
        shape: its dimensions; (bytes,) where the file gives none that fit.
        width: bits of an element: 2, 4, 8, 16, 32 or 64.
        crc32: of its bytes in the output.
        shift: bits that its codes are shifted up by (TANS). Default 0.
        table: number of its table (TANS). Default 0.
        chunk_log2: log2 of the most weights in a chunk (TANS). Default 16.
        chunk_bytes: size of each chunk (TANS). Default none.
    """

    codec: Codec
    shape: tuple[int, ...]
    width: int
    crc32: int
    shift: int = 0
    table: int = 0
    chunk_log2: int = MIN_CHUNK_LOG2
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
        return max(self.width // 8, 1) if self.codec == Codec.CONST else sum(self.chunk_bytes)


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
    if entry.codec == Codec.TANS:
        out += varint(entry.table) + bytes([entry.chunk_log2 - MIN_CHUNK_LOG2])
        out += b"".join(varint(size) for size in entry.chunk_bytes)
    return bytes(out)


def read_entry(reader: Reader, output_bytes: int, tables: int) -> Entry:
    """Reads one entry; refuses a tensor larger than the output, and fields that no encoder writes."""
    codec, rank = _split(reader.u8(), 4)
    log2_width, shift = _split(reader.u8(), 3)
    width = 1 << log2_width
    if codec not in Codec._value2member_map_:
        raise reader.error(f"codec {codec} is unknown", "Update tfqreg.")
    if not (1 <= rank <= MAX_RANK and 2 <= width <= 64 and shift < width):
        raise reader.error(f"a tensor of rank {rank}, {width} bits and shift {shift} is impossible")
    if codec != Codec.TANS and shift:
        raise reader.error(f"a {Codec(codec).name} tensor has shift {shift} instead of 0")
    shape = tuple(reader.varint() for _ in range(rank))
    size = tensor_bytes(shape, width)
    if not 0 < size <= output_bytes:
        raise reader.error(f"a tensor of shape {shape} and {width} bits has {size} bytes, the output {output_bytes}")
    crc32 = reader.u32()
    if codec != Codec.TANS:
        return Entry(Codec(codec), shape, width, crc32)
    return _read_tans(reader, shape, width, crc32, shift, tables)


def _read_tans(reader: Reader, shape: tuple[int, ...], width: int, crc32: int, shift: int, tables: int) -> Entry:
    if width > 32:
        raise reader.error(f"a TANS tensor has elements of {width} bits, 32 at most are possible")
    table = reader.varint()
    if table >= tables:
        raise reader.error(f"table {table} is named, POOL has {tables}")
    chunk_log2 = reader.u8() + MIN_CHUNK_LOG2
    if chunk_log2 > MAX_CHUNK_LOG2:
        raise reader.error(f"the chunk limit is 2**{chunk_log2}, 2**{MAX_CHUNK_LOG2} at most is possible")
    sizes = tuple(reader.varint() for _ in chunk_counts(shape, chunk_log2))
    return Entry(Codec.TANS, shape, width, crc32, shift, table, chunk_log2, sizes)


def _split(byte: int, low: int) -> tuple[int, int]:
    return byte & ((1 << low) - 1), byte >> low
