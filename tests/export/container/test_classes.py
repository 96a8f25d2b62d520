"""Classes of weights: every kind decodes to what was coded, and pays on weights that have it."""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.container import make_vectors
from tests.export.container.tflite_models import Array, laplace_codes, tflite
from tfqreg.export.container import inspect, pack, unpack
from tfqreg.export.container.decoder.layout import read_layout
from tfqreg.export.container.decoder.tensors import decode_tensors
from tfqreg.export.container.encoder.table_fit import fit_table
from tfqreg.export.container.encoder.tans import PlainChunk, encode_chunks
from tfqreg.export.container.format.cells import (
    Axis,
    Classes,
    Maps,
    categories,
    neighbour_contexts,
    row_and_second_cells,
)
from tfqreg.export.container.format.elements import pack_elements, to_elements
from tfqreg.export.container.format.index import Codec, Entry, chunk_counts, write_entry
from tfqreg.export.container.format.sections import SectionType, write_container
from tfqreg.export.container.format.table import write_table


def container_of(entry: Entry, codes: np.ndarray, cells: np.ndarray, maps: Maps) -> bytes:
    """Returns a container of one tensor: a table fitted to each cell, the map and the chunks."""
    tables = [
        fit_table(codes[cells == cell] if (cells == cell).any() else codes[:1]).table
        for cell in range(entry.classes.cells)
    ]
    tables = [
        replace(
            table, bits=12, frequencies=tuple(f * (1 << 12 - table.bits) for f in table.frequencies)
        )
        for table in tables
    ]
    map_codes = np.concatenate([maps.rows, maps.seconds])
    map_table = fit_table(map_codes.astype(np.int64)).table
    ends = np.cumsum(chunk_counts(entry.shape, entry.chunk_log2))[:-1]
    parts = zip(np.split(codes, ends), np.split(cells, ends), strict=True)
    chunks = [
        PlainChunk(map_codes, (map_table,)),
        *(PlainChunk(part, tuple(tables), cell) for part, cell in parts),
    ]
    coded = dict(encode_chunks(chunks))
    data = [coded[number] for number in range(len(chunks))]
    numbers = tuple(range(1, 1 + len(tables)))
    sizes = tuple(map(len, data[1:]))
    entry = replace(entry, map_table=0, map_bytes=len(data[0]), tables=numbers, chunk_bytes=sizes)
    size = entry.output_bytes
    sections = {
        SectionType.POOL: b"".join(map(write_table, [map_table, *tables])),
        SectionType.INDEX: write_entry(entry),
        SectionType.SKELETON: make_vectors.span(1, 0),
        SectionType.CHUNKS: b"".join(data),
    }
    return write_container(size, bytes(32), sections)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([Axis.NONE, Axis.COLUMNS, Axis.NEIGHBOURS]),
    st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(8, 20)),
    st.integers(1, 16),
    st.integers(2, 16),
    st.sampled_from([(2, 0), (4, 0), (4, 1), (8, 0), (8, 4), (8, 6)]),
    st.integers(0, 127),
)
def test_any_classes_come_back(
    seed: int,
    axis: Axis,
    shape: tuple[int, int, int, int],
    rows: int,
    seconds: int,
    element: tuple[int, int],
    threshold: int,
) -> None:
    random = np.random.default_rng(seed)
    width, shift = element
    seconds = 1 if axis == Axis.NONE else min(seconds, 64 // rows, 32 // rows)
    if seconds == 1:
        axis, rows = Axis.NONE, max(rows, 2)
    classes = Classes(rows, axis, seconds, threshold if axis == Axis.NEIGHBOURS else 0)
    top = 1 << (width - shift - 1)
    codes = np.clip(np.rint(random.laplace(size=math.prod(shape)) * top / 3), -top, top - 1).astype(
        np.int64
    )
    counts = classes.mapped(shape)
    maps = Maps(random.integers(0, rows, counts[0]), random.integers(0, seconds, counts[1]))
    elements = to_elements(codes, width, shift)
    contexts = None
    if axis == Axis.NEIGHBOURS:
        contexts = neighbour_contexts(categories(threshold, width, shift)[elements], shape)
    cells = row_and_second_cells(classes, shape, maps, contexts)
    data = pack_elements(elements, width)
    entry = Entry(Codec.TANS, shape, width, zlib.crc32(data), shift, classes=classes)
    cells = np.zeros(len(codes), np.uint8) if cells is None else cells
    assert decode_tensors(read_layout(container_of(entry, codes, cells, maps))) == [data]


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("rows", "rows"),
        ("columns", "columns"),
        ("depthwise", "columns"),
        ("neighbours", "neighbours"),
        ("neighbours_int4", "neighbours"),
        ("rows_neighbours", "rows x neighbours"),
    ],
)
def test_weights_that_have_classes_get_them(name: str, classes: str) -> None:
    tensor = inspect(pack(make_vectors.good()[name])).tensors[0]
    assert tensor.classes == classes
    assert (
        tensor.coded_bytes + tensor.table_bytes + tensor.index_bytes < 0.97 * tensor.entropy_bytes
    )


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_weights_that_have_none_pay_nothing(sparsity: float) -> None:
    tensor = inspect(
        pack(tflite([Array("w", laplace_codes(0, (64, 3, 3, 64), 4, sparsity))]))
    ).tensors[0]
    assert tensor.classes == "" and tensor.tables == 1


def test_many_tensors_share_256_tables() -> None:
    arrays = []
    for number in range(140):
        random = np.random.default_rng(number)
        arrays += [
            Array(f"w{number}", laplace_codes(number, (8, 40), 4, 0.3 + number / 240)),
            Array(
                f"b{number}", np.rint(random.normal(size=24) * (50 + 37 * number)).astype(np.int32)
            ),
        ]
    model = tflite(arrays)
    container = pack(model)
    assert unpack(container) == model
    assert len(read_layout(container).tables) <= 256
