"""The literals: LZMA2 chunks (Igor Pavlov's LZMA SDK and xz), primed with a fixed dictionary.

A chunk starts with a control byte. 0 ends the stream. 2 is a stored chunk: u16 size - 1, bytes. 128
and more is an LZMA chunk: bits 0-4 and a u16 hold size - 1, a second u16 the packed size - 1; bits
5-6 say what is reset first: 0 nothing, 1 the state, 2 the state, with a properties byte after the
sizes. Sizes are big endian, as in xz. Nothing resets the dictionary, which at the start is
`DICTIONARY`.
"""

import lzma

from .cursor import Reader
from .dictionary import DICTIONARY

# Literal bytes are told apart by their place in a 32-bit word, which suits a flatbuffer. LZMA calls
# these numbers lc, lp and pb.
CONTEXT_BITS, LITERAL_PLACE_BITS, PLACE_BITS = 0, 2, 2
PROPERTIES = (PLACE_BITS * 5 + LITERAL_PLACE_BITS) * 9 + CONTEXT_BITS
# How far back a match may reach: what the C decoder keeps of the literals in its work memory.
WINDOW_BYTES = 1 << 16
# The same for Python's lzma, at its slowest and smallest.
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": WINDOW_BYTES,
        "lc": CONTEXT_BITS,
        "lp": LITERAL_PLACE_BITS,
        "pb": PLACE_BITS,
    }
]
# Control bytes, the least of each kind.
END, STORED, PACKED = 0, 2, 0x80
RESET_STATE, RESET_PROPERTIES, RESET_DICTIONARY = 0xA0, 0xC0, 0xE0
# The dictionary as a stored chunk, which Python's decoder is given before the literals.
PRIMER = b"\x01" + (len(DICTIONARY) - 1).to_bytes(2, "big") + DICTIONARY


def inflate(reader: Reader, size: int) -> bytes:
    """Returns the `size` literals that fill the rest of `reader`; refuses more or fewer."""
    start = reader.position
    if size == 0:
        if not reader.at_end:
            raise reader.error(
                f"{len(reader.data) - start} bytes follow the spans, which have no literals"
            )
        return b""
    found = _skip_chunks(reader)
    if found != size:
        raise reader.error(f"the literals have {found} bytes, the spans need {size}")
    inflater = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    inflater.decompress(PRIMER)
    try:
        literals = inflater.decompress(reader.data[start:])
    except lzma.LZMAError as error:
        raise reader.error(f"the literals do not inflate ({error})") from None
    if len(literals) != size or not inflater.eof:
        raise reader.error(f"the literals inflate to {len(literals)} bytes, the spans need {size}")
    return literals


def _skip_chunks(reader: Reader) -> int:
    """Checks the headers of all chunks to the end; returns how many bytes they unpack to."""
    total, least = 0, RESET_PROPERTIES
    while control := reader.u8():
        size = int.from_bytes(reader.take(2), "big") + 1
        if control == STORED:
            reader.take(size)
            least = max(least, RESET_STATE)
        elif least <= control < RESET_DICTIONARY:
            size += (control & 0x1F) << 16
            packed_bytes = int.from_bytes(reader.take(2), "big") + 1
            if control >= RESET_PROPERTIES and (properties := reader.u8()) != PROPERTIES:
                raise reader.error(
                    f"the literals have LZMA properties {properties:#04x}, not {PROPERTIES:#04x}"
                )
            reader.take(packed_bytes)
            least = PACKED
        else:
            raise reader.error(
                f"a chunk of literals has control byte {control:#04x}, out of place here"
            )
        total += size
    if not reader.at_end:
        raise reader.error(f"{len(reader.data) - reader.position} bytes follow the literals")
    return total
