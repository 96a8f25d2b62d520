"""`unpack`: from a `.tqw` back to every byte of the `.tflite`, with numpy and zlib, never looking
inside.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..format.cells import Axis, Maps, categories, code_categories, row_and_second_cells
from ..format.elements import add_elements, pack_elements, to_codes, to_elements
from ..format.errors import damaged
from ..format.index import Codec, Entry, chunk_counts, read_entry
from ..format.limits import DEFAULT_LIMITS, Limits
from ..format.literals import inflate
from ..format.sections import (
    MAGIC,
    SHA256_OFFSET,
    Base,
    Header,
    SectionType,
    read_base,
    read_container,
)
from ..format.spans import Span, SpanKind, read_spans
from ..format.table import MAX_TABLES, Table, read_table
from . import native
from .neighbours import Neighbourhood
from .tans import CodedChunk, decode_chunks

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layout:
    """All of a container but its chunks, parsed and checked against each other."""

    header: Header
    base: Base | None
    tables: list[Table]
    table_bytes: list[int]
    entries: list[Entry]
    spans: list[Span]
    literals: bytes


def unpack(
    container: bytes | memoryview,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
    base: bytes | None = None,
) -> bytes:
    """Returns the `.tflite` that `container` was packed from, every byte of it.

    Args:
        container: the whole `.tqw`.
        limits: sizes to refuse. Default 2 GiB of output and 65,536 tensors.
        progress: called with the output bytes finished and their total. Default none.
        base: the `.tflite` or `.tqw` that `container` was packed against, if it is a delta. Default
            none.

    Raises:
        ContainerError: the container is damaged, hostile, over the limits, or from a newer version,
            or `base` is not the file it was packed against.

    Example:
        >>> from tfqreg.export.container import pack
        >>> unpack(pack(model)) == model
        True
    """
    if base is not None and bytes(base[: len(MAGIC)]) == MAGIC:
        base = unpack(base, limits)
    whole = native.decode(container, limits, progress, base)
    if whole is not None:
        return whole
    layout = read_layout(container, limits)
    found = check_base(layout.base, base, limits)
    output = bytearray(layout.header.output_bytes)
    fill(output, layout, decode_tensors(layout, found, progress), found)
    if hashlib.sha256(output).digest() != layout.header.sha256:
        raise damaged("header", SHA256_OFFSET, "the SHA-256 of the output does not match")
    if progress:
        progress(len(output), len(output))
    return bytes(output)


def check_base(expected: Base | None, base: bytes | None, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Returns the `.tflite` that a delta builds on, from it or from its `.tqw`; nothing where none
    is needed.
    """
    if expected is None:
        return b""
    remedy = f"Give the file with SHA-256 {expected.sha256.hex()}, or the .tqw of it."
    if base is None:
        raise damaged(
            "BASE",
            0,
            f"this is a delta to a file of {expected.size} bytes and none was given",
            remedy,
        )
    if bytes(base[: len(MAGIC)]) == MAGIC:
        base = unpack(base, limits)
    if hashlib.sha256(base).digest() != expected.sha256 or len(base) != expected.size:
        what = f"the base must have {expected.size} bytes and another SHA-256. Received: {len(base)} bytes, "
        raise damaged("BASE", 0, f"{what}{hashlib.sha256(base).hexdigest()}", remedy)
    return base


def read_layout(container: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Layout:
    """Parses and checks everything up to the coded chunks."""
    header = read_container(container, limits)
    base = read_base(header)
    base_bytes = base.size if base else None
    pool = header.section(SectionType.POOL)
    tables, ends = [], [0]
    while not pool.at_end:
        if len(tables) == MAX_TABLES:
            raise pool.error(f"there are more than {MAX_TABLES} tables")
        tables.append(read_table(pool))
        ends.append(pool.position)
    index = header.section(SectionType.INDEX)
    entries: list[Entry] = []
    while not index.at_end:
        if len(entries) == limits.tensors:
            raise index.error(
                f"there are more than {limits.tensors} tensors",
                "Raise Limits.tensors if you trust the file.",
            )
        entries.append(read_entry(index, header.output_bytes, tables, base_bytes))
    skeleton = header.section(SectionType.SKELETON)
    spans = read_spans(
        skeleton, header.output_bytes, [entry.output_bytes for entry in entries], base_bytes
    )
    literals = inflate(
        skeleton, sum(span.length for span in spans if span.kind == SpanKind.LITERAL)
    )
    chunks = header.section(SectionType.CHUNKS)
    coded = sum(entry.coded_bytes for entry in entries)
    if coded != len(chunks.data):
        raise chunks.error(
            f"the tensors need {coded} coded bytes, the section has {len(chunks.data)}"
        )
    return Layout(header, base, tables, np.diff(ends).tolist(), entries, spans, literals)


def decode_tensors(
    layout: Layout, base: bytes = b"", progress: Progress | None = None
) -> list[bytes]:
    """Returns the bytes of every tensor of the index, checked against their crc32."""
    reader = layout.header.section(SectionType.CHUNKS)
    maps = read_maps(layout)
    results: list[bytes] = []
    coded: list[CodedChunk] = []
    owners: list[int] = []
    for number, entry in enumerate(layout.entries):
        if entry.codec >= Codec.TANS:
            reader.take(entry.map_bytes)
            near, cells = _contexts(entry, maps.get(number), base)
            tables = tuple(layout.tables[table] for table in entry.tables)
            start = 0
            for size, count in zip(
                entry.chunk_bytes, chunk_counts(entry.shape, entry.chunk_log2), strict=True
            ):
                offset = reader.base + reader.position
                part = None if cells is None else cells[start : start + count]
                coded.append(
                    CodedChunk(
                        reader.take(size), count, tables, part, near, f"tensor {number}", offset
                    )
                )
                owners.append(number)
                start += count
            results.append(b"")
        else:
            data = bytes(reader.take(entry.coded_bytes))
            results.append(data * (entry.output_bytes // len(data)))
    _decode_tans(layout, coded, owners, results, base, progress)
    for number, (entry, data) in enumerate(zip(layout.entries, results, strict=True)):
        if zlib.crc32(data) != entry.crc32:
            raise damaged(
                f"tensor {number}",
                reader.base,
                f"the crc32 of its {len(data)} decoded bytes does not match",
            )
    return results


def read_maps(layout: Layout) -> dict[int, Maps]:
    """Returns the maps of the tensors that have classes, by number."""
    section = layout.header.section(SectionType.CHUNKS)
    coded, owners, place = [], [], 0
    for number, entry in enumerate(layout.entries):
        if entry.classes.cells > 1:
            data = section.data[place : place + entry.map_bytes]
            count, table = sum(entry.classes.mapped(entry.shape)), layout.tables[entry.map_table]
            where = f"map of tensor {number}"
            coded.append(
                CodedChunk(data, count, (table,), where=where, offset=section.base + place)
            )
            owners.append(number)
        place += entry.coded_bytes
    maps = {}
    for chunk, codes in decode_chunks(coded):
        number = owners[chunk]
        classes, shape = layout.entries[number].classes, layout.entries[number].shape
        rows, seconds = np.split(codes.astype(np.uint8), [classes.mapped(shape)[0]])
        if rows.max(initial=0) >= classes.rows or seconds.max(initial=0) >= classes.seconds:
            what = f"a class is not below {classes.rows} for rows and {classes.seconds} for the second axis"
            raise damaged(coded[chunk].where, coded[chunk].offset, what)
        maps[number] = Maps(rows, seconds)
    return maps


def _contexts(
    entry: Entry, maps: Maps | None, base: bytes
) -> tuple[Neighbourhood | None, np.ndarray | None]:
    """Returns where a tensor's second classes come from if from its own codes, and the cells known
    before.
    """
    if maps is None:
        return None, None
    classes, contexts, near = entry.classes, None, None
    if classes.axis == Axis.BASE:
        before = to_codes(
            base[entry.base : entry.base + entry.output_bytes],
            entry.weights,
            entry.width,
            signed=False,
        )
        contexts = categories(classes.threshold, entry.width, entry.shift)[before]
    elif classes.axis == Axis.NEIGHBOURS:
        found = code_categories(classes.threshold, entry.width, entry.shift)
        near = Neighbourhood(entry.shape, found, maps.seconds, classes.seconds)
    return near, row_and_second_cells(classes, entry.shape, maps, contexts)


def _decode_tans(
    layout: Layout,
    coded: Sequence[CodedChunk],
    owners: Sequence[int],
    results: list[bytes],
    base: bytes,
    progress: Progress | None,
) -> None:
    elements = [np.empty(0, np.uint8)] * len(coded)
    done = 0
    for chunk, codes in decode_chunks(coded):
        entry = layout.entries[owners[chunk]]
        elements[chunk] = to_elements(codes, entry.width, entry.shift)
        done += len(codes) * entry.width // 8
        if progress:
            progress(done, layout.header.output_bytes)
    first = 0
    for number, entry in enumerate(layout.entries):
        if entry.codec >= Codec.TANS:
            last = first + len(entry.chunk_bytes)
            whole = np.concatenate(elements[first:last])
            if entry.codec == Codec.DELTA:
                before = base[entry.base : entry.base + entry.output_bytes]
                whole = add_elements(
                    whole, to_codes(before, entry.weights, entry.width, signed=False), entry.width
                )
            results[number] = pack_elements(whole, entry.width)
            first = last


def fill(output: bytearray, layout: Layout, tensors: Sequence[bytes], base: bytes = b"") -> None:
    """Writes every span into `output`, which holds zeros."""
    derived: list[tuple[int, Span]] = []
    offset = literal = 0
    remaining = iter(tensors)
    for span in layout.spans:
        end = offset + span.length
        if span.kind == SpanKind.LITERAL:
            output[offset:end] = layout.literals[literal : literal + span.length]
            literal += span.length
        elif span.kind == SpanKind.TENSOR:
            output[offset:end] = next(remaining)
        elif span.kind == SpanKind.BASE:
            output[offset:end] = base[span.operands[0] : span.operands[0] + span.length]
        elif span.kind != SpanKind.ZERO:
            derived.append((offset, span))
        offset = end
    for offset, span in derived:
        end = offset + span.length
        if span.kind == SpanKind.COPY:
            source = span.operands[0]
            output[offset:end] = output[source : source + span.length]
        else:
            scalar, array = span.operands
            output[offset:end] = product_f32(output, scalar, array, span.length)


def product_f32(data: bytes | bytearray, scalar: int, array: int, size: int) -> bytes:
    """Returns `float32(at scalar) * float32(at array + 4 i)` for `size` bytes of results.

    >>> product_f32(np.array([2, 3, 4], "<f4").tobytes(), 0, 4, 8) == np.array([6, 8], "<f4").tobytes()
    True
    """
    factor = np.frombuffer(data, "<f4", 1, scalar)
    with np.errstate(all="ignore"):
        return (factor * np.frombuffer(data, "<f4", size // 4, array)).astype("<f4").tobytes()
