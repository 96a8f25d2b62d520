"""The table of kernels: the same figures from every kind of file, and sums that add up."""

import keras
import numpy as np
import pytest

from tests.export import small_model
from tfqreg.export import pack, write_tflite
from tfqreg.export.container import ContainerError, inspect
from tfqreg.export.lowering.lower import lower
from tfqreg.export.report.summary import (
    Row,
    Summary,
    format_summary,
    format_table,
    layer_rows,
    summarize,
    summarize_model,
)


@pytest.fixture(scope="module")
def tflite() -> bytes:
    return write_tflite(lower(small_model.trained()[0]))


def test_rows_equal_the_model(tflite):
    model = small_model.trained()[0]
    rows = {row.name: row for row in layer_rows(tflite, inspect(pack(tflite)))}
    assert list(rows) == ["conv/kernel", "hidden/kernel", "head/kernel"]
    assert [row.kind for row in rows.values()] == ["CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    codes = model.get_layer("hidden").encode()["kernel"][0]
    row = rows["hidden/kernel"]
    counts = np.unique(codes, return_counts=True)[1] / codes.size
    assert (row.shape, row.weights, row.bits, row.raw_bytes) == (
        (32, 288),
        codes.size,
        3,
        codes.size,
    )
    assert row.sparsity == pytest.approx(1 - np.count_nonzero(codes) / codes.size)
    assert row.sparsity >= 0.75
    assert row.entropy_bytes == pytest.approx(-(counts * np.log2(counts)).sum() * codes.size / 8)
    assert 0 < row.coded_bytes < row.raw_bytes / 3
    assert row.entropy_bytes <= row.huffman_bytes < row.entropy_bytes + codes.size / 8
    assert row.multiplications == np.count_nonzero(codes)
    assert row.multiplications <= row.shifts <= 2 * row.multiplications  # 3 bits: -4 to 3
    # The convolution uses each weight once for each of 6 x 6 places; its five bits hold 11.
    codes = model.get_layer("conv").encode()["kernel"][0]
    assert rows["conv/kernel"].multiplications == 36 * np.count_nonzero(codes)
    assert 11 in np.abs(codes) and rows["conv/kernel"].shifts is None


def test_every_kind_of_file_gives_one_summary(tflite):
    from_model = summarize_model(small_model.trained()[0])
    assert from_model == summarize(
        tflite, bits={"conv/kernel": 5, "hidden/kernel": 3, "head/kernel": 8}
    )
    assert from_model == summarize(
        tflite, pack(tflite), {row.name: row.bits for row in from_model.rows}
    )


def test_parts_add_up(tflite):
    summary = summarize(tflite)
    assert summary.tflite_bytes == len(tflite)
    assert sum(summary.parts.values()) == summary.container_bytes == len(pack(tflite))
    assert summary.parts["kernels"] == sum(row.coded_bytes or 0 for row in summary.rows)
    assert summary.float_bytes == 4 * small_model.float_model().count_params()


def test_a_float_model():
    model = small_model.float_model()
    summary = summarize_model(model)
    assert [(row.kind, row.bits) for row in summary.rows] == [
        ("Conv2D", 32),
        ("Dense", 32),
        ("Dense", 32),
    ]
    assert summary.rows[0].raw_bytes == 4 * 72
    assert summary.container_bytes is None
    assert summary.float_bytes == 4 * model.count_params()
    text = format_summary(summary)
    assert text.endswith(
        f"Not quantized: {summary.float_bytes:,} bytes of float weights, no integer file yet."
    )


def test_shared_layers_and_nested_models_count_once():
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, name="dense")], name="inner")
    x = keras.Input((6,))
    summary = summarize_model(keras.Model(x, inner(inner(x))))
    assert [row.name for row in summary.rows] == ["dense/kernel"]


def test_text_is_aligned_and_totals_add_up():
    rows = [
        Row("a", "CONV_2D", (2, 3), 1000, 4, 0.5, 1000, 400.0, 410, 425.4, 9000, 12_000),
        Row("b" * 60, "FULLY_CONNECTED", (3000, 1), 3000, 8, 0.0, 3000, 2900.4),
    ]
    lines = format_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[-2:] == ["multiplies", "or shifts"]
    assert lines[2].startswith("..." + "b" * 45 + "  ")
    assert lines[1].split()[-6:] == ["1,000", "400", "425", "410", "9,000", "12,000"]
    assert lines[2].split()[-6:] == ["3,000", "2,900", "-", "-", "-", "-"]
    assert lines[3].split() == [
        "total",
        "4,000",
        "12.50",
        "4,000",
        "3,300",
        "425",
        "410",
        "9,000",
        "12,000",
    ]


def test_no_kernels_at_all():
    assert format_table([]).splitlines()[1].split() == ["total", "0", "0.00", *"------"]
    assert "0 bytes" in format_summary(Summary((), 0))


def test_the_ratios_are_in_the_text(tflite):
    summary = summarize(tflite)
    last = format_summary(summary).splitlines()[-1].split()
    assert last[-3:] == [
        f"{summary.float_bytes:,}",
        f"{summary.float_bytes / summary.container_bytes:.1f}",
        "times",
    ]


def test_damage_is_refused(tflite):
    with pytest.raises(ContainerError, match="identifier"):
        summarize(b"no model at all")
    with pytest.raises(ContainerError):
        summarize(tflite, pack(tflite)[:-5])
