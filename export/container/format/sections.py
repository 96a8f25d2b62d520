"""The outer layout of a `.tqw`: a header with checksums, then sections up to the last byte.

    0   u8[8]   89 54 51 57 0D 0A 1A 0A
    8   u8      major version: a decoder refuses one it does not know
    9   u8      minor version: ignored
    10  u8      incompatible flags: a decoder refuses a bit it does not know
    11  u8      compatible flags: ignored
    12  u8[32]  SHA-256 of the output
    44  varint  bytes of the output
        u8      number of sections
        then for each section:  u8 type (bit 7: critical), varint bytes, u32 crc32
        u32     crc32 of all bytes before

Types ascend. An empty section is left out. A decoder skips an unknown section unless it is
critical.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from .cursor import Reader, varint
from .errors import damaged
from .limits import Limits

# As PNG's: damaged by copies that are 7-bit, in text mode, or stop at an end-of-file character.
MAGIC = b"\x89TQW\r\n\x1a\n"
MAJOR, MINOR = 1, 0
CRITICAL = 0x80
SHA256_OFFSET, SHA256_BYTES = 12, 32


class SectionType(IntEnum):
    """What a section holds; bit 7 of the stored type says that a decoder must understand it."""

    BASE = 1
    POOL = 2
    INDEX = 3
    SKELETON = 4
    CHUNKS = 5


@dataclass(frozen=True)
class Header:
    """What the header says, and a reader of each section that is present."""

    output_bytes: int
    sha256: bytes
    header_bytes: int
    sections: dict[SectionType, Reader]

    def section(self, kind: SectionType) -> Reader:
        """Returns the reader of a section, of an empty one if it was left out."""
        return self.sections.get(kind) or Reader(b"", kind.name)


def write_container(output_bytes: int, sha256: bytes, sections: dict[SectionType, bytes]) -> bytes:
    """Returns a whole container.

    >>> write_container(0, bytes(32), {}).hex()[88:]
    '00001b084733'
    """
    present = [(kind, sections[kind]) for kind in sorted(sections) if sections[kind]]
    header = (
        bytearray(MAGIC)
        + bytes([MAJOR, MINOR, 0, 0])
        + sha256
        + varint(output_bytes)
        + bytes([len(present)])
    )
    for kind, data in present:
        header += bytes([kind | CRITICAL]) + varint(len(data)) + struct.pack("<I", zlib.crc32(data))
    header += struct.pack("<I", zlib.crc32(header))
    return bytes(header) + b"".join(data for _, data in present)


def read_container(container: bytes | memoryview, limits: Limits) -> Header:
    """Reads and checks the header and the checksums of all sections.

    Raises:
        ContainerError: not a container, a version or section that this decoder does not know, a
            size that does not fit the file or the limits, or a checksum that does not match.
    """
    reader = Reader(container, "header")
    if bytes(reader.data[: len(MAGIC)]) != MAGIC:
        raise reader.error(
            f"the file starts with {bytes(reader.data[:8]).hex(' ')}, not {MAGIC.hex(' ')}",
            "Give a .tqw file, copied in binary mode.",
        )
    reader.take(len(MAGIC))
    major, _, incompatible, _ = reader.take(4)
    if major != MAJOR:
        raise damaged(
            "header", 8, f"major version {major} is unknown, {MAJOR} is known", "Update tfqreg."
        )
    if incompatible:
        raise damaged(
            "header", 10, f"incompatible flags {incompatible:#04x} are unknown", "Update tfqreg."
        )
    sha256 = bytes(reader.take(SHA256_BYTES))
    output_bytes = reader.varint()
    if output_bytes > limits.output_bytes:
        raise reader.error(
            f"the output has {output_bytes} bytes, the limit is {limits.output_bytes}",
            "Raise Limits.output_bytes if you trust the file.",
        )
    table = [(reader.u8(), reader.varint(), reader.u32()) for _ in range(reader.u8())]
    end = reader.position
    if reader.u32() != zlib.crc32(reader.data[:end]):
        raise damaged("header", end, "the header's crc32 does not match")
    return Header(output_bytes, sha256, reader.position, _read_sections(reader, table))


@dataclass(frozen=True)
class Base:
    """The file that a delta container needs beside it: its SHA-256 and size."""

    sha256: bytes
    size: int

    def to_bytes(self) -> bytes:
        """Returns the BASE section."""
        return self.sha256 + varint(self.size)


def read_base(header: Header) -> Base | None:
    """Returns what the BASE section says, None if there is none."""
    reader = header.sections.get(SectionType.BASE)
    if reader is None:
        return None
    base = Base(bytes(reader.take(SHA256_BYTES)), reader.varint())
    if not reader.at_end:
        raise reader.error(f"{len(reader.data) - reader.position} bytes follow the base's size")
    return base


def _read_sections(reader: Reader, table: list[tuple[int, int, int]]) -> dict[SectionType, Reader]:
    left = len(reader.data) - reader.position
    if sum(size for _, size, _ in table) != left:
        raise reader.error(
            f"the sections have {sum(size for _, size, _ in table)} bytes, the file has {left} "
            f"for them"
        )
    sections: dict[SectionType, Reader] = {}
    previous = 0
    for stored, size, crc in table:
        kind = stored & ~CRITICAL
        if kind <= previous:
            raise reader.error(
                f"section type {kind} follows type {previous}; types must ascend from 1"
            )
        previous = kind
        known = kind in SectionType._value2member_map_
        if stored & CRITICAL and not known:
            raise reader.error(f"critical section type {kind} is unknown", "Update tfqreg.")
        name = SectionType(kind).name if known else f"section {kind}"
        start = reader.position
        data = reader.take(size)
        if zlib.crc32(data) != crc:
            raise damaged(name, start, "the section's crc32 does not match")
        if known:
            sections[SectionType(kind)] = Reader(data, name, start)
    return sections
