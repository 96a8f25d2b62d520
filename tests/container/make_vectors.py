"""Writes `tests/vectors/good` and `tests/vectors/bad`: for a change of the format, never to quiet a test.

good/NAME.tflite packs into exactly good/NAME.tqw. bad/RULE.tqw breaks that one rule of SPEC.md; all its
checksums are right unless the rule is about one, so that nothing but the rule can refuse it.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Array, dense_layers, laplace_codes, tflite

from tfqreg.export.container import pack
from tfqreg.export.container.bits import BitWriter
from tfqreg.export.container.cursor import varint, zigzag
from tfqreg.export.container.sections import MAGIC, SectionType, write_container
from tfqreg.export.container.spans import deflate
from tfqreg.export.container.table import Table, write_table
from tfqreg.export.container.tans_encode import PlainChunk, encode_chunks

VECTORS = Path(__file__).parents[1] / "vectors"
POOL, INDEX, SKELETON, CHUNKS = SectionType
SHA256 = bytes(range(32))


def mixed_model() -> bytes:
    """Odd int4, float16, a constant, noise, and arrays shared, repeated, absent, empty or powers of two."""
    random = np.random.default_rng(7)
    kernel = laplace_codes(3, (16, 33), 5, 0.6) << 3
    nibbles = np.zeros(256, np.uint8)
    nibbles[:255] = laplace_codes(4, (255,), 4, 0.5) & 15
    scale = np.float32(2) ** random.integers(-9, -5, 16)
    arrays = [
        Array("x", scale=np.array([0.5]), shape=(1, 33)),
        Array("kernel", kernel, scale),
        Array("bias", random.integers(-2000, 2000, 16, np.int32), np.float32(0.5) * scale),
        Array("shares", type=schema.TensorType.INT8, shape=(33, 16), buffer="kernel"),
        Array("repeats", kernel),
        Array("int4", nibbles[0::2] | nibbles[1::2] << 4, type=schema.TensorType.INT4, shape=(15, 17)),
        Array("half", random.normal(size=(10, 20)).astype(np.float16)),
        Array("constant", np.full(400, 7, np.int16)),
        Array("noise", random.integers(0, 256, 1200, np.uint8)),
        Array("absent", shape=(3, 3)),
        Array("empty", np.zeros(0, np.int8), shape=(0,)),
    ]
    return tflite(arrays, [[0, 1, 2]])


def good() -> dict[str, bytes]:
    """Returns the `.tflite` of each golden pair."""
    random = np.random.default_rng(1)
    weights = [
        Array("a", random.normal(size=(12, 9)).astype(np.float32)),
        Array("b", np.zeros(9, np.float32)),
    ]
    return {
        "dense": dense_layers(0, [16, 8], 4, 0.5),
        "two_layers": dense_layers(2, [96, 64, 10], 4, 0.9),
        "mixed": mixed_model(),
        "float": tflite(weights, description="float"),
        "appended": tflite([Array("a", laplace_codes(5, (8, 40), 3, 0.3))]) + b"PK\3\4 metadata" * 9,
    }


def table_bytes(first: int = 0, rest: tuple[tuple[int, int], ...] = (), bins: int = 1, peak: int = 0) -> bytes:
    """Returns a table whose fields behind the peak are the (value, bits) of `rest`; 0 bits: a gamma code."""
    bits = BitWriter()
    for value, count in ((1, 1), (12, 4), (bins - 1, 8), (peak, 8), *rest):
        bits.write(value, count) if count else bits.gamma(value)
    return varint(zigzag(first)) + bits.to_bytes()


SKEWED = Table(-1, (0, 0), (96, 4000), 1)
TABLE = write_table(SKEWED)
LITERALS = b"sixteen literals"


def container(
    pool: bytes = b"",
    index: bytes = b"",
    spans: bytes = b"",
    literals: bytes = b"",
    chunks: bytes = b"",
    size: int = 16,
) -> bytes:
    """Returns a sealed container of these sections."""
    sections = {POOL: pool, INDEX: index, SKELETON: spans + literals, CHUNKS: chunks}
    return write_container(size, SHA256, sections)


def seal(header: bytes, sections: bytes = b"") -> bytes:
    """Returns a header with its crc32, then the sections."""
    return header + struct.pack("<I", zlib.crc32(header)) + sections


def header(version: bytes = bytes([1, 0, 0, 0]), size: bytes = b"\x00", table: bytes = b"\x00") -> bytes:
    """Returns an unsealed header."""
    return MAGIC + version + SHA256 + size + table


def section(kind: int, data: bytes) -> bytes:
    """Returns a row of the section table."""
    return bytes([kind]) + varint(len(data)) + struct.pack("<I", zlib.crc32(data))


def span(kind: int, length: int, *operands: int) -> bytes:
    """Returns a span's stored form."""
    return varint(length << 3 | kind) + b"".join(map(varint, operands))


def tensor(codec: int = 1, rank: int = 1, width: int = 3, shift: int = 0, shape: tuple[int, ...] = (16,)) -> bytes:
    """Returns an index entry up to its crc32; `width` is the log2."""
    return bytes([codec | rank << 4, width | shift << 3]) + b"".join(map(varint, shape)) + bytes(4)


def bad_headers() -> dict[str, tuple[bytes, str]]:
    literal = span(0, 16) + deflate(LITERALS)
    whole = container(spans=literal)
    return {
        "magic_in_text_mode": (whole.replace(b"\r\n", b"\n", 1), "starts with"),
        "major_version_unknown": (seal(header(bytes([2, 0, 0, 0]))), "major version 2"),
        "incompatible_flag_unknown": (seal(header(bytes([1, 0, 1, 0]))), "incompatible flags 0x01"),
        "header_crc32": (whole[:12] + b"\xff" + whole[13:], "header's crc32"),
        "output_over_limit": (seal(header(size=varint(1 << 40))), "the limit is"),
        "varint_too_long": (seal(header(size=b"\xff" * 9 + b"\x01")), "longer than 9"),
        "varint_superfluous_zero": (seal(header(size=b"\x80\x00")), "superfluous zero"),
        "section_missing": (whole[:-1], "sections have"),
        "bytes_after_sections": (whole + b"\x00", "sections have"),
        "section_crc32": (whole[:-1] + bytes([whole[-1] ^ 1]), "section's crc32"),
        "section_twice": (seal(header(table=b"\x02" + section(0x83, b"") * 2)), "follows type 3"),
        "sections_not_ascending": (
            seal(header(table=b"\x02" + section(3, b"") + section(2, b""))),
            "follows type 3",
        ),
        "section_type_0": (seal(header(table=b"\x01" + section(0, b""))), "type 0 follows"),
        "critical_section_unknown": (
            seal(header(table=b"\x01" + section(0x89, b""))),
            "critical section type 9",
        ),
        "output_sha256": (whole, "SHA-256"),
    }


def bad_tables() -> dict[str, tuple[bytes, str]]:
    gamma = 0
    tables = {
        "peak_outside_table": (table_bytes(bins=2, peak=2), "names bin 2 as its peak"),
        "extra_bits_over_32": (table_bytes(rest=((0, 1), (33, gamma))), "33 extra bits"),
        "extra_bits_negative": (
            table_bytes(bins=2, rest=((1, 1), (0, gamma), (1, gamma))),
            "-1 to 0 extra bits",
        ),
        "gamma_code_too_long": (table_bytes(rest=((0, 1), (0, 7))), "gamma code"),
        "frequency_over_sum": (table_bytes(bins=2, rest=((0, 1), (0, gamma), (26, gamma))), "class 14"),
        "frequency_negative": (table_bytes(bins=2, rest=((0, 1), (0, gamma), (3, gamma))), "class -1"),
        "frequencies_leave_nothing": (
            table_bytes(bins=3, peak=2, rest=((0, 1), (0, gamma), (22, gamma), (2047, 11), (0, gamma), (1, 11))),
            "sum to",
        ),
        "bits_after_table": (table_bytes(rest=((0, 1), (0, gamma), (1, 1))), "not zero"),
        "table_ends_early": (TABLE[:-1], "are left"),
    }
    return {name: (container(pool=data), message) for name, (data, message) in tables.items()}


def bad_entries() -> dict[str, tuple[bytes, str]]:
    entries = {
        "codec_unknown": (tensor(codec=3), "codec 3"),
        "rank_0": (tensor(rank=0, shape=()), "rank 0"),
        "rank_9": (tensor(rank=9, shape=(1,) * 9), "rank 9"),
        "width_1_bit": (tensor(width=0), "1 bits"),
        "width_128_bits": (tensor(width=7), "128 bits"),
        "shift_not_below_width": (tensor(codec=2, shift=8), "shift 8"),
        "shift_without_tans": (tensor(shift=1), "shift 1 instead"),
        "tensor_without_elements": (tensor(rank=2, shape=(16, 0)), "has 0 bytes"),
        "tensor_over_output": (tensor(shape=(17,)), "has 17 bytes"),
        "shape_overflows": (tensor(rank=3, shape=(1 << 31, 1 << 31, 4)), "bytes, the output 16"),
        "entry_ends_early": (tensor()[:-1], "are left"),
        "tans_of_64_bits": (tensor(codec=2, width=6, shape=(2,)), "64 bits, 32"),
        "table_outside_pool": (tensor(codec=2) + b"\x01", "POOL has 1"),
        "chunk_limit_unknown": (tensor(codec=2) + b"\x00\x05", "2**21"),
        "chunk_sizes_missing": (tensor(codec=2) + b"\x00\x00", "are left"),
    }
    return {name: (container(pool=TABLE, index=data), message) for name, (data, message) in entries.items()}


def bad_spans() -> dict[str, tuple[bytes, str]]:
    literal = span(0, 16)
    spans = {
        "span_kind_unknown": (span(5, 16), "kind 5"),
        "span_empty": (span(2, 0), "ZERO span is empty"),
        "span_past_output": (span(2, 17), "ends at output byte 17"),
        "spans_do_not_reach_the_end": (span(2, 15), "are left"),
        "tensor_span_with_length": (span(1, 2), "length 2"),
        "tensor_span_without_tensor": (span(1, 0), "no tensor left"),
        "product_not_whole_floats": (span(2, 1) + span(3, 15, 0, 0), "not whole float32"),
        "product_reads_outside": (span(3, 16, 13, 0), "reads output bytes 13"),
        "product_array_outside": (span(3, 16, 0, 1), "reads output bytes 1 "),
        "copy_reads_outside": (span(2, 8) + span(4, 8, 16), "reads output bytes 16"),
        "copy_reads_itself": (span(2, 8) + span(4, 8, 1), "reads itself"),
        "literals_do_not_inflate": (literal + b"\xff\xff", "do not inflate"),
        "literals_too_short": (literal + deflate(LITERALS[1:]), "inflate to 15"),
        "literals_too_long": (literal + deflate(LITERALS + b"!"), "inflate to 17 bytes or more"),
        "literals_unfinished": (literal + deflate(LITERALS)[:-1], "inflate to"),
        "bytes_after_literals": (literal + deflate(LITERALS) + b"\x00", "does not end there"),
        "bytes_after_spans": (span(2, 16) + b"\x00", "no literals"),
    }
    found = {name: (container(spans=data), message) for name, (data, message) in spans.items()}
    unplaced = container(index=tensor(), spans=literal + deflate(LITERALS), chunks=b"\x00")
    return found | {"tensor_without_span": (unplaced, "place 0 of 1")}


def bad_chunks() -> dict[str, tuple[bytes, str]]:
    """A TANS tensor of 16 zeros whose chunk is wrong."""

    def with_chunk(data: bytes, coded: bytes | None = None, crc32: int = zlib.crc32(bytes(16))) -> bytes:
        entry = tensor(codec=2)[:-4] + struct.pack("<I", crc32) + bytes([0, 0, len(data)])
        return container(TABLE, entry, span(1, 0), chunks=data if coded is None else coded)

    plain = PlainChunk(np.zeros(16, np.int8), SKEWED)
    right = dict(encode_chunks([plain]))[0]
    return {
        "chunks_too_short": (with_chunk(right, coded=right[:-1]), "need 2 coded bytes"),
        "chunks_too_long": (with_chunk(right, coded=right + b"\0"), "need 2 coded bytes"),
        "chunk_without_states": (with_chunk(right[:1]), "shorter than its states"),
        "chunk_with_spare_byte": (with_chunk(right + b"\0"), "of 24 bits end at its bit 12"),
        "chunk_ends_early": (with_chunk(b"\xff\x0f"), "of 16 bits end at its bit 17"),
        "chunk_bits_after_end": (
            with_chunk(right[:1] + bytes([right[1] | 0x80])),
            "last symbol are not zero",
        ),
        "chunk_final_state": (with_chunk(bytes([right[0] + 1, right[1]])), "ends in states"),
        "tensor_crc32": (with_chunk(right, crc32=0), "decoded bytes does not match"),
    }


def bad() -> dict[str, tuple[bytes, str]]:
    """Returns each bad container by the rule it breaks, with a part of the message that must name it."""
    return bad_headers() | bad_tables() | bad_entries() | bad_spans() | bad_chunks()


def main() -> None:
    for folder, files in (("good", good()), ("bad", {name: data for name, (data, _) in bad().items()})):
        (VECTORS / folder).mkdir(parents=True, exist_ok=True)
        for path in (VECTORS / folder).iterdir():
            path.unlink()
        for name, data in files.items():
            if folder == "good":
                (VECTORS / folder / f"{name}.tflite").write_bytes(data)
                data = pack(data)
            (VECTORS / folder / f"{name}.tqw").write_bytes(data)


if __name__ == "__main__":
    main()
