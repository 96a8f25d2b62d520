"""The literals as LZMA2 chunks: by our own encoder if they are few, by xz if they are many."""

import lzma

from ..format.dictionary import DICTIONARY
from ..format.literals import END, FILTERS, PACKED, PROPERTIES, RESET_PROPERTIES, STORED
from .lzma_encoder import encode

# Above, the dictionary saves next to nothing, and only xz is fast enough.
PRIMED_BYTES = 8192


def compress(literals: bytes) -> bytes:
    """Returns `literals` as LZMA2 chunks, nothing for nothing.

    >>> from tfqreg.export.container.format.cursor import Reader
    >>> from tfqreg.export.container.format.literals import inflate
    >>> inflate(Reader(compress(b"literals"), "example"), 8)
    b'literals'
    """
    if not literals:
        return b""
    if len(literals) <= PRIMED_BYTES:
        packed = encode(DICTIONARY, literals)
        sizes = [(len(part) - 1).to_bytes(2, "big") for part in (literals, packed)]
        if len(packed) < len(literals):
            return (
                bytes([RESET_PROPERTIES, *sizes[0], *sizes[1], PROPERTIES]) + packed + bytes([END])
            )
        return bytes([STORED, *sizes[0]]) + literals + bytes([END])
    found = bytearray(lzma.compress(literals, lzma.FORMAT_RAW, filters=FILTERS))
    # xz resets the dictionary first, which ours must survive.
    found[0] = STORED if found[0] < PACKED else found[0] & 0x1F | RESET_PROPERTIES
    return bytes(found)
