"""Tables and the tANS coder: round trips, sizes against the entropy, and the automaton by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.container.tflite_models import Array, laplace_codes, tflite
from tfqreg.export.container import inspect, pack
from tfqreg.export.container.decoder.tans import CodedChunk, decode_chunks
from tfqreg.export.container.encoder.table_fit import fit_table
from tfqreg.export.container.encoder.tans import PlainChunk, encode_chunks
from tfqreg.export.container.format.cursor import Reader
from tfqreg.export.container.format.errors import ContainerError
from tfqreg.export.container.format.table import Table, read_table, write_table


def coded(parts: list[np.ndarray], table: Table) -> list[bytes]:
    found = dict(encode_chunks([PlainChunk(part, (table,)) for part in parts]))
    return [found[index] for index in range(len(parts))]


def decoded(chunks: list[bytes], parts: list[np.ndarray], table: Table) -> list[np.ndarray]:
    todo = [CodedChunk(data, len(part), (table,)) for data, part in zip(chunks, parts, strict=True)]
    found = dict(decode_chunks(todo))
    return [found[index] for index in range(len(parts))]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5000), min_size=1, max_size=4),
    st.integers(1, 31),
    st.floats(0, 1),
    st.sampled_from(["uniform", "laplace", "powers"]),
)
def test_round_trip(seed: int, counts: list[int], bits: int, sparsity: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    total, top = sum(counts), 2**bits - 1
    codes = {
        "uniform": lambda: random.integers(-top, top + 1, total),
        "laplace": lambda: np.rint(random.laplace(size=total) * top / 8).astype(np.int64),
        "powers": lambda: (1 << random.integers(0, bits, total)) * random.choice([-1, 1], total),
    }[kind]()
    codes[random.random(total) < sparsity] = 0
    table = fit_table(codes).table
    reader = Reader(write_table(table), "table")
    assert read_table(reader) == table and reader.at_end
    assert sum(table.frequencies) == 1 << table.bits
    parts = np.split(codes, np.cumsum(counts)[:-1])
    for part, back in zip(parts, decoded(coded(parts, table), parts, table), strict=True):
        np.testing.assert_array_equal(back, part)


@pytest.mark.parametrize("draw", ["laplace", "normal"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("sparsity", [0, 0.5, 0.9, 0.98])
def test_size_is_near_the_entropy(draw: str, bits: int, sparsity: float) -> None:
    random = np.random.default_rng(bits)
    top = 2 ** (bits - 1) - 1
    noise = (
        random.laplace(size=200_000) / 4 if draw == "laplace" else random.normal(size=200_000) / 3
    )
    codes = np.clip(np.rint(noise * top), -top, top).astype(np.int8)
    codes[random.random(len(codes)) < sparsity] = 0
    tensor = inspect(pack(tflite([Array("w", codes.reshape(-1, 100))]))).tensors[0]
    # The table of a sparse 8-bit tensor alone is about 30 bytes, and its rare codes share bins.
    allowed = 60 if bits == 8 else 40
    assert tensor.coded_bytes + tensor.table_bytes <= 1.002 * tensor.entropy_bytes + allowed


def test_chunk_layout_by_hand() -> None:
    # One lane, one symbol of 2 extra bits: state 0 in 12 bits, then 3, 1, 2, least significant bit
    # first.
    table = Table(5, (2,), (4096,), 0)
    assert coded([np.array([8, 6, 7])], table) == [(0b10_01_11 << 12).to_bytes(3, "little")]


@pytest.mark.parametrize("count", [1, 7, 2047, 2048, 2049, 4099])
def test_every_truncation_of_a_chunk_is_refused(count: int) -> None:
    codes = laplace_codes(1, (count,), 4, 0.3).astype(np.int64)
    table = fit_table(codes).table
    data = coded([codes], table)[0]
    for length in {0, 1, 11, 12, 13, len(data) // 2, len(data) - 1} & set(range(len(data))):
        with pytest.raises(ContainerError, match="chunk"):
            decoded([data[:length]], [codes], table)
