"""`inspect`: its parts add up to the file, and its statistics to the tensors."""

import numpy as np
import pytest

from tests.export.container import make_vectors
from tests.export.container.tflite_models import Array, laplace_codes, tflite
from tfqreg.export.container import format_account, inspect, pack


@pytest.mark.parametrize("name", make_vectors.good())
def test_parts_add_up(name: str) -> None:
    model = make_vectors.good()[name]
    base = make_vectors.bases().get(name)
    container = pack(model, base=base)
    info = inspect(container, base=base)
    assert info.container_bytes == len(container) and info.output_bytes == len(model)
    parts = ("header", "base", "pool", "index", "skeleton", "chunk")
    assert sum(getattr(info, f"{part}_bytes") for part in parts) == len(container)
    assert sum(span.output_bytes for span in info.spans.values()) == len(model)
    assert sum(span.coded_bytes for span in info.spans.values()) == info.skeleton_bytes
    assert sum(tensor.coded_bytes for tensor in info.tensors) == info.chunk_bytes
    assert sum(tensor.table_bytes for tensor in info.tensors) == info.pool_bytes
    assert sum(tensor.index_bytes for tensor in info.tensors) == info.index_bytes
    assert info.weight_stream_bytes + info.overhead_bytes == len(container)


def test_tensor_statistics() -> None:
    codes = laplace_codes(0, (40, 50), 4, 0.8)
    bias = np.rint(np.random.default_rng(0).normal(size=200) * 3000).astype(np.int32)
    arrays = [
        Array("kernel", codes << 4, np.linspace(0.01, 0.02, 40, dtype=np.float32)),
        Array("bias", bias),
    ]
    info = {tensor.name: tensor for tensor in inspect(pack(tflite(arrays))).tensors}
    kernel = info["kernel"]
    assert (kernel.shape, kernel.codec, kernel.bits, kernel.shift) == ((40, 50), "TANS", 4, 4)
    assert (kernel.weights, kernel.nonzeros, kernel.raw_bytes) == (
        2000,
        np.count_nonzero(codes),
        2000,
    )
    fractions = np.unique(codes, return_counts=True)[1] / 2000
    assert kernel.entropy_bytes == pytest.approx(-(fractions * np.log2(fractions)).sum() * 2000 / 8)
    assert kernel.is_weight and not info["bias"].is_weight
    whole = inspect(pack(tflite(arrays)))
    assert whole.weight_stream_bytes == kernel.coded_bytes + kernel.table_bytes


def test_a_table_is_counted_once() -> None:
    codes = laplace_codes(0, (40, 50), 4, 0.8)
    first, second = inspect(pack(tflite([Array("a", codes), Array("b", codes[::-1])]))).tensors
    assert first.table_bytes > 0 and second.table_bytes == 0


def test_biases_beat_deflate() -> None:
    bias = np.rint(np.random.default_rng(0).normal(size=500) * 3000).astype(np.int32)
    tensor = inspect(pack(tflite([Array("bias", bias)]))).tensors[0]
    # A normal distribution of this width has log2(3000 sqrt(2 pi e)) = 13.6 bits, 850 bytes in all.
    assert tensor.coded_bytes + tensor.table_bytes + tensor.index_bytes < 900


def test_the_account_names_every_tensor_and_adds_up() -> None:
    container = pack(make_vectors.good()["rows_neighbours"])
    text = format_account(inspect(container))
    assert "rows x neighbours" in text and "60 x 3 x 3 x 32" in text
    assert text.splitlines()[-1].split() == ["container", f"{len(container):,}"]
    assert len({len(line) for line in text.split("\n\n")[2].splitlines()}) == 1
