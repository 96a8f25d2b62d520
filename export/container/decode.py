"""`unpack`: from a `.tqw` back to every byte of the `.tflite`, with numpy and zlib, never looking inside."""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .elements import pack_elements, to_elements
from .errors import damaged
from .index import Codec, Entry, chunk_counts, read_entry
from .limits import DEFAULT_LIMITS, Limits
from .sections import SHA256_OFFSET, Header, SectionType, read_container
from .spans import Span, SpanKind, read_literals, read_spans
from .table import Table, read_table
from .tans_decode import CodedChunk, decode_chunks

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Layout:
    """All of a container but its chunks, parsed and checked against each other."""

    header: Header
    tables: list[Table]
    table_bytes: list[int]
    entries: list[Entry]
    spans: list[Span]
    literals: bytes


def unpack(container: bytes | memoryview, limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None) -> bytes:
    """Returns the `.tflite` that `container` was packed from, every byte of it.

    Args:
        container: the whole `.tqw`.
        limits: sizes to refuse. Default 2 GiB of output and 65,536 tensors.
        progress: called with the output bytes finished and their total. Default none.

    Raises:
        ContainerError: the container is damaged, hostile, over the limits, or from a newer version.

    Example:
        >>> from tfqreg.export.container import pack
        >>> unpack(pack(model)) == model
        True
    """
    layout = read_layout(container, limits)
    output = bytearray(layout.header.output_bytes)
    tensors = decode_tensors(layout, progress)
    fill(output, layout, tensors)
    if hashlib.sha256(output).digest() != layout.header.sha256:
        raise damaged("header", SHA256_OFFSET, "the SHA-256 of the output does not match")
    if progress:
        progress(len(output), len(output))
    return bytes(output)


def read_layout(container: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Layout:
    """Parses and checks everything up to the coded chunks."""
    header = read_container(container, limits)
    pool = header.section(SectionType.POOL)
    tables, ends = [], [0]
    while not pool.at_end:
        if len(tables) == limits.tensors:
            raise pool.error(
                f"there are more than {limits.tensors} tables", "Raise Limits.tensors if you trust the file."
            )
        tables.append(read_table(pool))
        ends.append(pool.position)
    index = header.section(SectionType.INDEX)
    entries: list[Entry] = []
    while not index.at_end:
        if len(entries) == limits.tensors:
            raise index.error(
                f"there are more than {limits.tensors} tensors", "Raise Limits.tensors if you trust the file."
            )
        entries.append(read_entry(index, header.output_bytes, len(tables)))
    skeleton = header.section(SectionType.SKELETON)
    spans = read_spans(skeleton, header.output_bytes, [entry.output_bytes for entry in entries])
    literals = read_literals(skeleton, spans)
    chunks = header.section(SectionType.CHUNKS)
    coded = sum(entry.coded_bytes for entry in entries)
    if coded != len(chunks.data):
        raise chunks.error(f"the tensors need {coded} coded bytes, the section has {len(chunks.data)}")
    return Layout(header, tables, np.diff(ends).tolist(), entries, spans, literals)


def decode_tensors(layout: Layout, progress: Progress | None = None) -> list[bytes]:
    """Returns the bytes of every tensor of the index, checked against their crc32."""
    reader = layout.header.section(SectionType.CHUNKS)
    results: list[bytes] = []
    coded: list[CodedChunk] = []
    owners: list[int] = []
    for number, entry in enumerate(layout.entries):
        if entry.codec == Codec.TANS:
            counts = chunk_counts(entry.shape, entry.chunk_log2)
            for size, count in zip(entry.chunk_bytes, counts, strict=True):
                offset = reader.base + reader.position
                table = layout.tables[entry.table]
                coded.append(CodedChunk(reader.take(size), count, table, f"tensor {number}", offset))
                owners.append(number)
            results.append(b"")
        else:
            data = bytes(reader.take(entry.coded_bytes))
            results.append(data * (entry.output_bytes // len(data)))
    _decode_tans(layout, coded, owners, results, progress)
    for number, (entry, data) in enumerate(zip(layout.entries, results, strict=True)):
        if zlib.crc32(data) != entry.crc32:
            raise damaged(f"tensor {number}", reader.base, f"the crc32 of its {len(data)} decoded bytes does not match")
    return results


def _decode_tans(
    layout: Layout,
    coded: Sequence[CodedChunk],
    owners: Sequence[int],
    results: list[bytes],
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
        if entry.codec == Codec.TANS:
            last = first + len(entry.chunk_bytes)
            results[number] = pack_elements(np.concatenate(elements[first:last]), entry.width)
            first = last


def fill(output: bytearray, layout: Layout, tensors: Sequence[bytes]) -> None:
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
