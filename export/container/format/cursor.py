"""Little-endian fields and varints: a bounds-checked reader, and what a writer appends.

A varint is an integer of variable length: 7 bits per byte, low bits first; the high bit says that
another byte follows. It is at most 9 bytes (63 bits) long and has no superfluous zero byte at its
end, so every number has one spelling.
"""

import struct

from .errors import ContainerError, damaged

# 63 bits, so that every number fits a signed 64-bit integer.
MAX_VARINT_BYTES = 9


def varint(value: int) -> bytes:
    """Returns `value` (0 to 2**63 - 1) as a varint.

    >>> varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Maps 0, -1, 1, -2, ... to 0, 1, 2, 3, ...: small numbers of either sign get short varints.

    >>> [zigzag(v) for v in (0, -1, 1, -2)]
    [0, 1, 2, 3]
    """
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """The inverse of `zigzag`.

    >>> [unzigzag(v) for v in (0, 1, 2, 3)]
    [0, -1, 1, -2]
    """
    return value >> 1 if value & 1 == 0 else -(value >> 1) - 1


class Reader:
    """Reads fields of `data` in order; every read past its end raises `ContainerError`.

    Args:
        data: the bytes of one section.
        where: its name, for messages.
        base: its offset in the file, for messages. Default 0.

    >>> Reader(b"\\x07\\xac\\x02", "index").u8()
    7
    """

    def __init__(self, data: bytes | memoryview, where: str, base: int = 0) -> None:
        self.data = memoryview(data)
        self.where = where
        self.base = base
        self.position = 0

    @property
    def at_end(self) -> bool:
        """Whether every byte has been read."""
        return self.position == len(self.data)

    def error(self, what: str, remedy: str = "Fetch or pack the file again.") -> ContainerError:
        """Returns the error for `what` found at the current position."""
        return damaged(self.where, self.base + self.position, what, remedy)

    def take(self, count: int) -> memoryview:
        """Returns the next `count` bytes."""
        left = len(self.data) - self.position
        if count > left:
            raise self.error(f"{count} bytes are needed and {left} are left")
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def u8(self) -> int:
        """Returns the next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Returns the next four bytes as an unsigned integer."""
        return struct.unpack("<I", self.take(4))[0]

    def varint(self) -> int:
        """Returns the next varint; refuses one that is too long or has a superfluous zero byte."""
        value = 0
        for index in range(MAX_VARINT_BYTES):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index > 0:
                    raise self.error("a varint ends in a superfluous zero byte")
                return value
        raise self.error(f"a varint is longer than {MAX_VARINT_BYTES} bytes")
