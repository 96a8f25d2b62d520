"""The committed vectors: golden pairs stay the same bytes, bad files are refused by their rule."""

import hashlib
import time
from pathlib import Path

import pytest

from tests.export.container import make_vectors
from tfqreg.export.container import ContainerError, Limits, pack, unpack
from tfqreg.export.container.decoder.layout import read_layout
from tfqreg.export.container.format.cells import Axis
from tfqreg.export.container.format.cursor import Reader
from tfqreg.export.container.format.index import Codec, Entry, chunk_counts, read_entry, write_entry
from tfqreg.export.container.format.spans import SpanKind, read_spans
from tfqreg.export.container.format.states import LANES_FROM

GOOD = sorted((make_vectors.VECTORS / "good").glob("*.tqw"))
BAD = sorted((make_vectors.VECTORS / "bad").glob("*.tqw"))
MADE = make_vectors.bad()


def base_of(path: Path) -> bytes | None:
    """Returns what stands beside a vector that is a delta."""
    base = path.with_suffix(".base")
    return base.read_bytes() if base.exists() else None


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_vectors_unpack(path: Path) -> None:
    assert unpack(path.read_bytes(), base=base_of(path)) == path.with_suffix(".tflite").read_bytes()


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_vectors_pack_to_the_same_bytes(path: Path) -> None:
    assert pack(path.with_suffix(".tflite").read_bytes(), base=base_of(path)) == path.read_bytes()


def test_good_vectors_use_all_of_the_format() -> None:
    layouts = [read_layout(path.read_bytes()) for path in GOOD]
    entries = [entry for layout in layouts for entry in layout.entries]
    assert {entry.codec for entry in entries} == set(Codec)
    assert {entry.classes.axis for entry in entries} == set(Axis)
    assert {span.kind for layout in layouts for span in layout.spans} == set(SpanKind)
    assert {entry.width for entry in entries} >= {4, 8, 16, 32}
    assert any(
        entry.classes.rows > 1 and entry.classes.axis == Axis.NEIGHBOURS for entry in entries
    )
    assert any(sum(entry.classes.mapped(entry.shape)) >= LANES_FROM for entry in entries)
    assert any(len(entry.chunk_bytes) > 1 for entry in entries)


def test_no_vector_is_missing() -> None:
    assert {path.stem for path in GOOD} == set(make_vectors.good())
    assert {path.stem for path in BAD} == set(MADE)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_vectors_are_refused(path: Path) -> None:
    data, message = MADE[path.stem]
    assert path.read_bytes() == data
    began = time.perf_counter()
    with pytest.raises(ContainerError) as caught:
        unpack(path.read_bytes(), base=base_of(path))
    assert message in str(caught.value)
    assert ", byte " in str(caught.value) and str(caught.value).endswith(".")
    assert time.perf_counter() - began < 1


def test_what_a_decoder_must_ignore() -> None:
    span = make_vectors.span(2, 5)
    sections = make_vectors.section(0x84, span) + make_vectors.section(0x17, b"future")
    newer = make_vectors.header(bytes([1, 9, 0, 0xFF]), b"\x05", b"\x02" + sections)
    newer = newer.replace(make_vectors.SHA256, hashlib.sha256(bytes(5)).digest())
    assert unpack(make_vectors.seal(newer, span + b"future")) == bytes(5)


@pytest.mark.parametrize("size", [1 << 31, 1 << 40, (1 << 63) - 1])
def test_hostile_sizes_fail_fast(size: int) -> None:
    span = make_vectors.varint(size << 3 | 2) if size < 1 << 59 else make_vectors.span(2, 1 << 59)
    header = make_vectors.header(
        size=make_vectors.varint(size), table=b"\x01" + make_vectors.section(0x84, span)
    )
    began = time.perf_counter()
    with pytest.raises(ContainerError, match="the limit is 1000000"):
        unpack(make_vectors.seal(header, span), Limits(output_bytes=10**6))
    assert time.perf_counter() - began < 0.1


def test_a_tensor_of_2_to_the_31_is_refused_before_it_is_made() -> None:
    """The sizes of all its chunks would have to follow, and the output to be allowed."""
    shape = (1 << 16, 1 << 15)
    entry = make_vectors.tensor(codec=2, rank=2, shape=shape) + bytes(2)
    data = make_vectors.container(make_vectors.TABLE, entry, make_vectors.span(1, 0), size=1 << 31)
    began = time.perf_counter()
    with pytest.raises(ContainerError, match="are left"):
        unpack(data)
    constant = make_vectors.tensor(codec=1, rank=2, shape=shape)
    data = make_vectors.container(
        index=constant, spans=make_vectors.span(1, 0), chunks=b"\0", size=1 << 31
    )
    with pytest.raises(ContainerError, match="the limit is 1000000"):
        unpack(data, Limits(output_bytes=10**6))
    assert time.perf_counter() - began < 1


def test_arithmetic_past_2_gib() -> None:
    """Places, sizes and counts of a 6 GiB file, of which only the skeleton is made."""
    size = 6 << 30
    stored = (
        make_vectors.span(2, 5 << 30)
        + make_vectors.span(1, 0)
        + make_vectors.span(4, 1 << 29, 1 << 32)
    )
    spans = read_spans(Reader(stored, "SKELETON"), size, [1 << 29])
    assert [span.length for span in spans] == [5 << 30, 1 << 29, 1 << 29]
    entry = Entry(Codec.TANS, (1 << 20, 5000), 8, 0)
    assert entry.output_bytes == sum(chunk_counts(entry.shape, 16)) == 5000 << 20
    back = read_entry(
        Reader(write_entry(Entry(Codec.CONST, (1 << 20, 5000), 8, 7)), "INDEX"), size, []
    )
    assert back.output_bytes == 5000 << 20
