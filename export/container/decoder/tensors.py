"""The coded bytes of all tensors: each chunk with its tables, decoded, and checked by its crc32.

Tensors with classes come in two rounds. The first decodes their maps. The second decodes their
weights, whose tables the maps choose.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from ..format.cells import Axis, Maps, categories, code_categories, row_and_second_cells
from ..format.elements import add_elements, pack_elements, to_codes, to_elements
from ..format.errors import damaged
from ..format.index import Codec, Entry, chunk_counts
from ..format.limits import Progress
from ..format.sections import SectionType
from .layout import Layout
from .neighbours import Neighbourhood
from .tans import CodedChunk, decode_chunks


def decode_tensors(
    layout: Layout, base: bytes = b"", progress: Progress | None = None
) -> list[bytes]:
    """Returns the bytes of every tensor of the index, checked against their crc32."""
    reader = layout.header.section(SectionType.CHUNKS)
    maps = read_maps(layout)
    results: list[bytes] = []
    chunks: list[CodedChunk] = []
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
                where = f"tensor {number}"
                chunks.append(
                    CodedChunk(reader.take(size), count, tables, part, near, where, offset)
                )
                owners.append(number)
                start += count
            results.append(b"")
        else:
            data = bytes(reader.take(entry.coded_bytes))
            results.append(data * (entry.output_bytes // len(data)))
    _decode_tans(layout, chunks, owners, results, base, progress)
    for number, (entry, data) in enumerate(zip(layout.entries, results, strict=True)):
        if zlib.crc32(data) != entry.crc32:
            what = f"the crc32 of its {len(data)} decoded bytes does not match"
            raise damaged(f"tensor {number}", reader.base, what)
    return results


def read_maps(layout: Layout) -> dict[int, Maps]:
    """Returns the maps of the tensors that have classes, by number."""
    section = layout.header.section(SectionType.CHUNKS)
    chunks, owners, place = [], [], 0
    for number, entry in enumerate(layout.entries):
        if entry.classes.cells > 1:
            data = section.data[place : place + entry.map_bytes]
            count, table = sum(entry.classes.mapped(entry.shape)), layout.tables[entry.map_table]
            where = f"map of tensor {number}"
            chunks.append(
                CodedChunk(data, count, (table,), where=where, offset=section.base + place)
            )
            owners.append(number)
        place += entry.coded_bytes
    maps = {}
    for chunk, codes in decode_chunks(chunks):
        number = owners[chunk]
        classes, shape = layout.entries[number].classes, layout.entries[number].shape
        rows, seconds = np.split(codes.astype(np.uint8), [classes.mapped(shape)[0]])
        if rows.max(initial=0) >= classes.rows or seconds.max(initial=0) >= classes.seconds:
            what = (
                f"a class is not below {classes.rows} for rows and {classes.seconds} for the "
                "second axis"
            )
            raise damaged(chunks[chunk].where, chunks[chunk].offset, what)
        maps[number] = Maps(rows, seconds)
    return maps


def _contexts(
    entry: Entry, maps: Maps | None, base: bytes
) -> tuple[Neighbourhood | None, np.ndarray | None]:
    """Returns how a tensor gets its cells.

    The first is where its second classes come from, if they depend on its own codes; the second
    holds the cells, or that part of them, that is known before decoding.
    """
    if maps is None:
        return None, None
    classes, contexts, near = entry.classes, None, None
    if classes.axis == Axis.BASE:
        before = _base_elements(entry, base)
        contexts = categories(classes.threshold, entry.width, entry.shift)[before]
    elif classes.axis == Axis.NEIGHBOURS:
        found = code_categories(classes.threshold, entry.width, entry.shift)
        near = Neighbourhood(entry.shape, found, maps.seconds, classes.seconds)
    return near, row_and_second_cells(classes, entry.shape, maps, contexts)


def _base_elements(entry: Entry, base: bytes) -> np.ndarray:
    """Returns the elements of the same tensor in the base."""
    before = base[entry.base : entry.base + entry.output_bytes]
    return to_codes(before, entry.weights, entry.width, signed=False)


def _decode_tans(
    layout: Layout,
    chunks: Sequence[CodedChunk],
    owners: Sequence[int],
    results: list[bytes],
    base: bytes,
    progress: Progress | None,
) -> None:
    """Decodes all chunks, and fills in the results of the tensors that own them."""
    elements = [np.empty(0, np.uint8)] * len(chunks)
    done = 0
    for chunk, codes in decode_chunks(chunks):
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
                whole = add_elements(whole, _base_elements(entry, base), entry.width)
            results[number] = pack_elements(whole, entry.width)
            first = last
