"""Writes `tests/vectors`: for a change of the format, never to quiet a test.

good/NAME.tflite packs into exactly good/NAME.tqw, as a delta to good/NAME.base if there is one.
bad/RULE.tqw breaks that one rule of SPEC.md; all its checksums are right unless the rule is about
one, so that nothing but the rule can refuse it.
"""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.export.container.tflite_models import Array, dense_layers, laplace_codes, tflite
from tfqreg.export.container import pack
from tfqreg.export.container.encoder.literals import compress
from tfqreg.export.container.encoder.tans import PlainChunk, encode_chunks
from tfqreg.export.container.format.bits import BitWriter
from tfqreg.export.container.format.cursor import varint, zigzag
from tfqreg.export.container.format.sections import MAGIC, SectionType, write_container
from tfqreg.export.container.format.table import Table, write_table

VECTORS = Path(__file__).parents[2] / "vectors"
BASE, POOL, INDEX, SKELETON, CHUNKS = SectionType
SHA256 = bytes(range(32))


def mixed_model() -> bytes:
    """Odd int4, float16, a constant, noise; arrays repeated, absent, empty or powers of two."""
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
        Array(
            "int4", nibbles[0::2] | nibbles[1::2] << 4, type=schema.TensorType.INT4, shape=(15, 17)
        ),
        Array("half", random.normal(size=(10, 20)).astype(np.float16)),
        Array("constant", np.full(400, 7, np.int16)),
        Array("noise", random.integers(0, 256, 1200, np.uint8)),
        Array("absent", shape=(3, 3)),
        Array("empty", np.zeros(0, np.int8), shape=(0,)),
    ]
    return tflite(arrays, [[0, 1, 2]])


def uneven_codes(seed: int, shape: tuple[int, ...], by_column: bool) -> np.ndarray:
    """Returns 4-bit codes (rows, columns); rows or columns in turns have 97, 50, 10 % zeros."""
    random = np.random.default_rng(seed)
    zeros = np.array([0.97, 0.5, 0.1])[np.arange(shape[by_column]) % 3]
    codes = laplace_codes(seed, shape, 4, 0)
    codes[random.random(shape) < (zeros if by_column else zeros[:, None])] = 0
    return codes


def smooth_kernels(
    seed: int, shape: tuple[int, int, int, int], bits: int, sparsity: float
) -> np.ndarray:
    """Returns codes of kernels (O, H, W, I) whose neighbours are alike, as if trained."""
    random = np.random.default_rng(seed)
    noise = random.laplace(size=shape[:1] + shape[3:])[:, None, None] + 0.4 * random.laplace(
        size=shape
    )
    top = 2 ** (bits - 1) - 1
    codes = np.clip(np.rint(noise * top / 3), -top, top)
    codes[np.abs(noise) < np.quantile(np.abs(noise), sparsity)] = 0
    return codes.astype(np.int8)


def nibbles(codes: np.ndarray) -> np.ndarray:
    """Returns 4-bit codes, two per byte."""
    flat = codes.ravel().astype(np.uint8) & 15
    return flat[0::2] | flat[1::2] << 4


def retrained(seed: int, codes: np.ndarray) -> np.ndarray:
    """Returns codes of which a few that are not zero moved by a step, as in another epoch."""
    random = np.random.default_rng(seed)
    steps = random.integers(-1, 2, codes.shape) * (random.random(codes.shape) < 0.3) * (codes != 0)
    return np.clip(codes + steps, -7, 7).astype(np.int8)


def delta_pair(packed: bool) -> tuple[bytes, bytes]:
    """Returns a model after and before more training; its codes in int8 or, packed, in int4."""
    before = laplace_codes(11, (40, 60), 4, 0.7)
    models = []
    for codes, bias in ((retrained(12, before), 1), (before, 0)):
        data, kind = (nibbles(codes), schema.TensorType.INT4) if packed else (codes << 4, None)
        arrays = [
            Array("kernel", data, np.full(40, 0.01, np.float32), type=kind, shape=codes.shape),
            Array(
                "bias",
                np.arange(40, dtype=np.int32) * 991 + bias * np.arange(40, dtype=np.int32) % 7,
            ),
        ]
        models.append(tflite(arrays, description="new" if bias else "old"))
    return models[0], models[1]


def good() -> dict[str, bytes]:
    """Returns the `.tflite` of each golden pair."""
    random = np.random.default_rng(1)
    weights = [
        Array("a", random.normal(size=(12, 9)).astype(np.float32)),
        Array("b", np.zeros(9, np.float32)),
    ]
    kernels = smooth_kernels(8, (24, 3, 3, 32), 4, 0.6)
    small = smooth_kernels(9, (16, 3, 3, 16), 4, 0.5)
    crossed = smooth_kernels(16, (60, 3, 3, 32), 4, 0.3)
    crossed[::2][np.random.default_rng(17).random((30, 3, 3, 32)) < 0.8] = 0
    wide = np.zeros((2, 70_000), np.int8)
    wide[:, ::9] = laplace_codes(10, (2, 7778), 4, 0)
    return {
        "dense": dense_layers(0, [16, 8], 4, 0.5),
        "two_layers": dense_layers(2, [96, 64, 10], 4, 0.9),
        "mixed": mixed_model(),
        "float": tflite(weights, description="float"),
        "appended": tflite([Array("a", laplace_codes(5, (8, 40), 3, 0.3))])
        + b"PK\3\4 metadata" * 9,
        "rows": tflite([Array("w", uneven_codes(6, (96, 60), by_column=False) << 4)]),
        "columns": tflite([Array("w", uneven_codes(7, (60, 96), by_column=True) << 4)]),
        "depthwise": tflite(
            [Array("w", uneven_codes(13, (25, 240), by_column=True).reshape(1, 5, 5, 240))]
        ),
        "neighbours": tflite([Array("w", kernels << 4)]),
        "neighbours_int4": tflite(
            [Array("w", nibbles(small), type=schema.TensorType.INT4, shape=small.shape)]
        ),
        "neighbours_8_bit": tflite([Array("w", smooth_kernels(14, (24, 3, 3, 24), 8, 0.3))]),
        "rows_neighbours": tflite([Array("w", crossed << 4)]),
        "many_rows": tflite([Array("w", uneven_codes(15, (2400, 24), by_column=False))]),
        "long_rows": tflite([Array("w", wide)]),
        "nothing": tflite(
            [Array("w", np.zeros((0, 4), np.int8)), Array("one", np.ones((1, 1), np.int8))]
        ),
        "incompressible": tflite(
            [Array("w", np.ones(3, np.int8))], description="".join(map(chr, range(32, 127)))
        )
        + random.integers(0, 256, 3000, np.uint8).tobytes(),
        "delta": delta_pair(packed=False)[0],
        "delta_int4": delta_pair(packed=True)[0],
    }


def bases() -> dict[str, bytes]:
    """Returns the file before each golden delta."""
    return {"delta": delta_pair(packed=False)[1], "delta_int4": delta_pair(packed=True)[1]}


def table_bytes(
    first: int = 0, rest: tuple[tuple[int, int], ...] = (), bins: int = 1, peak: int = 0
) -> bytes:
    """Returns a table whose fields after the peak are `rest`: (value, bits), 0 for a gamma code."""
    bits = BitWriter()
    for value, count in ((1, 1), (12, 4), (bins - 1, 8), (peak, 8), *rest):
        bits.write(value, count) if count else bits.gamma(value)
    return varint(zigzag(first)) + bits.to_bytes()


SKEWED = Table(-1, (0, 0), (96, 4000), 1)
TABLE = write_table(SKEWED)
MAP_TABLE = write_table(Table(0, (0, 0), (1024, 1024), 0, 11))
LITERALS = b"literal literal "
BASE_FILE = b"a base's 16 byte"


def container(
    pool: bytes = b"",
    index: bytes = b"",
    spans: bytes = b"",
    literals: bytes = b"",
    chunks: bytes = b"",
    size: int = 16,
    base: bytes = b"",
) -> bytes:
    """Returns a sealed container of these sections."""
    sections = {BASE: base, POOL: pool, INDEX: index, SKELETON: spans + literals, CHUNKS: chunks}
    return write_container(size, SHA256, sections)


def seal(header: bytes, sections: bytes = b"") -> bytes:
    """Returns a header with its crc32, then the sections."""
    return header + struct.pack("<I", zlib.crc32(header)) + sections


def header(
    version: bytes = bytes([1, 0, 0, 0]), size: bytes = b"\x00", table: bytes = b"\x00"
) -> bytes:
    """Returns an unsealed header."""
    return MAGIC + version + SHA256 + size + table


def section(kind: int, data: bytes) -> bytes:
    """Returns a row of the section table."""
    return bytes([kind]) + varint(len(data)) + struct.pack("<I", zlib.crc32(data))


def span(kind: int, length: int, *operands: int) -> bytes:
    """Returns a span's stored form."""
    return varint(length << 3 | kind) + b"".join(map(varint, operands))


def tensor(
    codec: int = 1, rank: int = 1, width: int = 3, shift: int = 0, shape: tuple[int, ...] = (16,)
) -> bytes:
    """Returns an index entry up to its crc32; `width` is the log2."""
    return bytes([codec | rank << 4, width | shift << 3]) + b"".join(map(varint, shape)) + bytes(4)


def bad_headers() -> dict[str, tuple[bytes, str]]:
    literal = span(0, 16) + compress(LITERALS)
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
        "frequency_over_sum": (
            table_bytes(bins=2, rest=((0, 1), (0, gamma), (26, gamma))),
            "class 14",
        ),
        "frequency_negative": (
            table_bytes(bins=2, rest=((0, 1), (0, gamma), (3, gamma))),
            "class -1",
        ),
        "frequencies_leave_nothing": (
            table_bytes(
                bins=3,
                peak=2,
                rest=((0, 1), (0, gamma), (22, gamma), (2047, 11), (0, gamma), (1, 11)),
            ),
            "sum to",
        ),
        "bits_after_table": (table_bytes(rest=((0, 1), (0, gamma), (1, 1))), "not zero"),
        "table_ends_early": (TABLE[:-1], "are left"),
    }
    return {name: (container(pool=data), message) for name, (data, message) in tables.items()}


def form(rows: bool = False, axis: int = 0, limit: int = 0) -> int:
    """Returns the byte that says how a tensor is cut into chunks and classes."""
    return limit | rows << 4 | axis << 5


def bad_entries() -> dict[str, tuple[bytes, str]]:
    tans = tensor(codec=2)
    kernel, deep = tensor(codec=2, rank=4, shape=(1, 2, 1, 8)), (1, 2, 2, 40_000)
    near, rows = form(axis=2), form(rows=True)
    entries = {
        "codec_unknown": (tensor(codec=4), "codec 4"),
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
        "table_outside_pool": (tans + bytes([0, 2]), "POOL has 2"),
        "chunk_limit_unknown": (tans + bytes([form(limit=5), 0]), "2**21"),
        "chunk_sizes_missing": (tans + bytes(2), "are left"),
        "form_bit_7": (tans + bytes([0x80, 0, 1]), "bit 7"),
        "row_classes_1": (tans + bytes([rows, 1, 0, 1, 0, 1]), "has 1 classes"),
        "row_classes_17": (tans + bytes([rows, 17, 0, 1, *bytes(17), 1]), "has 17 classes"),
        "second_classes_0": (tans + bytes([form(axis=1), 0, 0, 1, 0, 1]), "has 0 classes"),
        "cells_over_64": (
            tans + bytes([form(rows=True, axis=1), 13, 5, 0, 1, *bytes(65), 1]),
            "has 65 cells",
        ),
        "categories_of_16_bits": (
            tensor(codec=2, width=4, rank=4, shape=(1, 1, 1, 8))
            + bytes([near, 2, 1, 0, 1, 0, 0, 1]),
            "elements of 16 bits",
        ),
        "threshold_over_127": (kernel + bytes([near, 2, 128, 0, 1, 0, 0, 1]), "threshold 128"),
        "neighbours_of_rank_1": (
            tans + bytes([near, 2, 1, 0, 1, 0, 0, 1]),
            "cannot have neighbours",
        ),
        "neighbours_in_7_columns": (
            tensor(codec=2, rank=4, shape=(1, 2, 1, 7)) + bytes([near, 2, 1, 0, 1, 0, 0, 1]),
            "cannot have neighbours",
        ),
        "base_classes_without_delta": (
            tans + bytes([form(axis=3), 2, 1, 0, 1, 0, 0, 1]),
            "TANS tensor has classes by BASE",
        ),
        "map_table_negative": (tans + bytes([rows, 2, 0, 1, 0, 0, 1]), "table 0 of a map"),
        "tables_differ_in_bits": (
            tans + bytes([rows, 2, 1, 1, 0, 1, 1]),
            "differ in probability bits",
        ),
        "delta_without_base": (tensor(codec=3) + bytes([0, 0, 0, 1]), "without BASE"),
    }
    found = {
        name: (container(TABLE + MAP_TABLE, data), message)
        for name, (data, message) in entries.items()
    }
    high = write_table(Table(0, (8, 0), (2047, 1), 0, 11))
    many = [
        tensor(codec=2, rank=2, shape=(70_000, 1)) + bytes([rows, 2, 0, 1, 0, 0, 1]),
        deep_entry(deep, near),
    ]
    long = deep_entry((1, 5, 1, 20_000), near)
    states = b"".join(write_table(Table(first, (0, 0), (96, 4000), 1)) for first in range(33))
    crowded = tensor(codec=2) + bytes([form(rows=True, axis=1), 3, 11, 0, 1, *range(33), 1])
    return found | {
        "map_table_over_256": (
            container(high, tans + bytes([rows, 2, 0, 1, 0, 0, 1])),
            "table 0 of a map",
        ),
        "map_over_65536": (container(MAP_TABLE, many[0], size=1 << 18), "more than 65536 entries"),
        "neighbours_out_of_reach": (
            container(MAP_TABLE, many[1], size=1 << 18),
            "cannot have neighbours",
        ),
        "neighbours_across_chunks": (
            container(MAP_TABLE, long, size=1 << 18),
            "cannot have neighbours",
        ),
        "tables_over_states": (container(states, crowded), "more than 131072 states"),
        "tables_over_256": (container(TABLE * 257), "more than 256 tables"),
    }


def deep_entry(shape: tuple[int, ...], near: int) -> bytes:
    """Returns an entry of a kernel with neighbours and two classes."""
    return tensor(codec=2, rank=4, shape=shape) + bytes([near, 2, 1, 0, 1, 0, 0, 1])


def bad_deltas() -> dict[str, tuple[bytes, str]]:
    """Deltas to `BASE_FILE`, which every bad delta is given but the one that misses it."""
    base = hashlib.sha256(BASE_FILE).digest() + varint(len(BASE_FILE))
    whole = span(5, 16, 0)
    return {
        "base_missing": (container(base=base, spans=whole), "none was given"),
        "base_of_other_size": (
            container(base=base[:32] + varint(17), spans=whole),
            "must have 17 bytes",
        ),
        "base_of_other_sha256": (
            container(base=bytes(32) + base[32:], spans=whole),
            "another SHA-256",
        ),
        "base_section_too_long": (
            container(base=base + b"\0", spans=whole),
            "follow the base's size",
        ),
        "base_section_too_short": (container(base=base[:32], spans=whole), "are left"),
        "base_span_without_base": (container(spans=whole), "without BASE"),
        "base_span_reads_outside": (
            container(base=base, spans=span(5, 16, 1)),
            "reads byte 17 of 16",
        ),
        "delta_reads_outside": (
            container(TABLE, tensor(codec=3) + bytes([1, 0, 0, 1]), base=base),
            "base bytes 1 to 17 of 16",
        ),
        "neighbours_of_delta": (
            container(
                MAP_TABLE,
                tensor(codec=3, rank=4, shape=(1, 2, 1, 8))
                + bytes([0, form(axis=2), 2, 1, 0, 1, 0, 0, 1]),
                base=base,
            ),
            "DELTA tensor has classes by NEIGHBOURS",
        ),
    }


def bad_spans() -> dict[str, tuple[bytes, str]]:
    literal, packed = span(0, 16), compress(LITERALS)
    spans = {
        "span_kind_unknown": (span(6, 16), "kind 6"),
        "span_empty": (span(2, 0), "ZERO span is empty"),
        "span_past_output": (span(2, 17), "ends at output byte 17"),
        "spans_do_not_reach_the_end": (span(2, 15), "are left"),
        "tensor_span_with_length": (span(1, 2), "length 2"),
        "tensor_span_without_tensor": (span(1, 0), "no tensor left"),
        "product_not_whole_floats": (span(2, 1) + span(3, 15, 0, 0), "not whole float32"),
        "product_reads_outside": (span(3, 16, 13, 0), "reads output bytes 13"),
        "product_array_outside": (span(2, 8) + span(3, 8, 0, 9), "reads output bytes 9 "),
        "copy_reads_outside": (span(2, 8) + span(4, 8, 16), "reads output bytes 16"),
        "copy_reads_itself": (span(2, 8) + span(4, 8, 1), "reads itself"),
        "product_reads_itself": (span(2, 8) + span(3, 8, 0, 4), "reads itself"),
        "literals_do_not_inflate": (literal + packed[:6] + b"\xff" + packed[7:], "do not inflate"),
        "literals_too_short": (literal + compress(LITERALS[1:]), "have 15 bytes"),
        "literals_too_long": (literal + compress(LITERALS + b"!"), "have 17 bytes"),
        "literals_unfinished": (literal + packed[:-1], "are left"),
        "literals_missing": (literal, "are left"),
        "literals_reset_the_dictionary": (literal + b"\xe0" + packed[1:], "control byte 0xe0"),
        "literals_stored_with_reset": (
            literal + b"\x01\0\x0f" + LITERALS + b"\0",
            "control byte 0x01",
        ),
        "literals_without_properties": (
            literal + b"\xa0" + packed[1:5] + packed[6:],
            "control byte 0xa0",
        ),
        "literals_without_reset": (
            literal + b"\x02\0\0s" + b"\x80" + packed[1:5] + packed[6:],
            "control byte 0x80",
        ),
        "literals_of_other_properties": (
            literal + packed[:5] + b"\x5d" + packed[6:],
            "properties 0x5d",
        ),
        "bytes_after_literals": (literal + packed + b"\x00", "1 bytes follow the literals"),
        "bytes_after_spans": (span(2, 16) + b"\x00", "no literals"),
    }
    found = {name: (container(spans=data), message) for name, (data, message) in spans.items()}
    unplaced = container(index=tensor(), spans=literal + compress(LITERALS), chunks=b"\x00")
    return found | {"tensor_without_span": (unplaced, "place 0 of 1")}


def bad_chunks() -> dict[str, tuple[bytes, str]]:
    """A TANS tensor of 16 zeros whose chunk is wrong."""

    def with_chunk(
        data: bytes, coded: bytes | None = None, crc32: int = zlib.crc32(bytes(16))
    ) -> bytes:
        entry = tensor(codec=2)[:-4] + struct.pack("<I", crc32) + bytes([0, 0, len(data)])
        return container(TABLE, entry, span(1, 0), chunks=data if coded is None else coded)

    plain = PlainChunk(np.zeros(16, np.int8), (SKEWED,))
    right = dict(encode_chunks([plain]))[0]
    wrong_map = dict(
        encode_chunks([PlainChunk(np.full(16, 2), (Table(0, (1, 0), (2000, 48), 0, 11),))])
    )[0]
    mapped = tensor(codec=2) + bytes([form(rows=True), 2, 1, len(wrong_map), 0, 0, len(right)])
    wide = write_table(Table(0, (1, 0), (2000, 48), 0, 11))
    return {
        "map_class_unknown": (
            container(TABLE + wide, mapped, span(1, 0), chunks=wrong_map + right),
            "a class is not below 2",
        ),
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
    """Returns each bad container by the rule it breaks, with a part of the message."""
    return bad_headers() | bad_tables() | bad_entries() | bad_deltas() | bad_spans() | bad_chunks()


def main() -> None:
    for folder, files in (
        ("good", good()),
        ("bad", {name: data for name, (data, _) in bad().items()}),
    ):
        (VECTORS / folder).mkdir(parents=True, exist_ok=True)
        for path in (VECTORS / folder).iterdir():
            path.unlink()
        for name, data in files.items():
            if folder == "good":
                (VECTORS / folder / f"{name}.tflite").write_bytes(data)
                base = bases().get(name)
                if base is not None:
                    (VECTORS / folder / f"{name}.base").write_bytes(base)
                data = pack(data, base=base)
            elif name in bad_deltas() and name != "base_missing":
                (VECTORS / folder / f"{name}.base").write_bytes(BASE_FILE)
            (VECTORS / folder / f"{name}.tqw").write_bytes(data)


if __name__ == "__main__":
    main()
