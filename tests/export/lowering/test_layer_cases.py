"""Layers with a kernel beyond the first set, and what moves or pools values: lowered as expected,
near Keras, exact.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfqreg as tq
from tests.export import keras_nets as nets
from tests.export import layer_cases, moving_nets
from tests.export.layer_cases import CASES, TRANSPOSED
from tfqreg.export import export_tflite, integer_model, simulate, verify
from tfqreg.export.lowering.lower import lower
from tfqreg.export.verification.compare import DEFAULT_RUNTIMES
from tfqreg.export.verification.runtimes import RUNTIMES, missing
from tfqreg.export.verification.samples import graph_inputs

ALL_CASES = {**CASES, **{f"transposed: {name}": case for name, case in TRANSPOSED.items()}}


@pytest.mark.parametrize("name", ALL_CASES)
def test_operators(name):
    model = nets.calibrated(layer_cases.model_of(ALL_CASES[name]))
    graph = lower(model)
    assert [op.kind for op in graph.ops] == ALL_CASES[name][2]
    # One step where a value lies in the middle of two codes, and a second one where such a step is
    # multiplied.
    for error, spread in nets.output_errors(model, graph, nets.samples(model, 8, 1)):
        assert spread > 8
        assert error.max() <= 2.01
        assert error.mean() <= 0.3


def assert_exact(model: keras.Model, path, runtimes) -> None:
    export_tflite(model, path)
    report = verify(model, path, nets.samples(model, 4, 3), runtimes)
    assert list(report.runtimes) == [name for name in runtimes if missing(name) is None]
    assert report.exact, str(report)


@pytest.mark.parametrize("cases", [CASES, TRANSPOSED], ids=["open batch", "closed batch"])
def test_all_together_are_exact_on_every_runtime(cases, tmp_path):
    assert_exact(nets.calibrated(layer_cases.joined(cases)), tmp_path / "m.tflite", RUNTIMES)


@pytest.mark.parametrize("seed", range(20, 24))
def test_random_networks_are_exact(seed, tmp_path):
    assert_exact(moving_nets.moving_net(seed), tmp_path / "m.tflite", DEFAULT_RUNTIMES)


def test_a_sequential_built_by_a_call(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Conv2DTranspose(4, 3, 2, name="up"), layers.Cropping2D(1), layers.Dense(3)]
    )
    model(np.ones((2, 5, 4, 3), np.float32))
    assert_exact(nets.calibrated(model), tmp_path / "m.tflite", DEFAULT_RUNTIMES)


def test_reductions_to_one_number(tmp_path):
    x = keras.Input((5, 4, 3), name="x")
    ends = [reduce(x, (1, 2, 3)) for reduce in (ops.mean, ops.sum, ops.max, ops.min)]
    model = nets.calibrated(keras.Model(x, ends))
    assert [y.shape for y in model(nets.samples(model, 7)[0])] == [(7,)] * 4
    graph = lower(model)
    for error, _ in nets.output_errors(model, graph, nets.samples(model, 64, 1)):
        assert error.max() <= 2.01
    assert_exact(model, tmp_path / "m.tflite", DEFAULT_RUNTIMES)


@pytest.mark.parametrize("float_io", [False, True])
def test_an_argmax_at_the_end(float_io, tmp_path):
    x = keras.Input((5, 4, 3), name="x")
    scores = layers.Conv2D(6, 1)(x)
    ends = [ops.argmax(scores, -1), ops.argmax(scores, 1, keepdims=True), scores]
    model = nets.calibrated(keras.Model(x, ends))
    graph = export_tflite(model, tmp_path / "m.tflite", float_io=float_io)
    samples = nets.samples(model, 32, 1)
    report = verify(model, tmp_path / "m.tflite", samples)
    assert report.exact, str(report)
    kept = simulate(graph, graph_inputs(graph, samples))
    last, rows = (kept[name] for name in graph.outputs[:2])
    codes = kept[next(op.inputs[0] for op in graph.ops if op.kind == "ARG_MAX")]
    assert last.dtype == rows.dtype == np.int32
    np.testing.assert_array_equal(last, codes.argmax(-1))
    np.testing.assert_array_equal(rows, codes.argmax(1)[:, None])
    found = integer_model(model)(samples[0])
    np.testing.assert_array_equal(found[0], last)
    np.testing.assert_array_equal(found[1], rows)


def test_nothing_computes_with_an_argmax():
    x = keras.Input((5, 4), name="x")
    model = nets.calibrated(keras.Model(x, ops.expand_dims(ops.argmax(x, -1), 1)))
    with pytest.raises(ValueError, match=r"^expand_dims.*: it computes with int8 codes. End the"):
        lower(model)


def test_shared_nested_rows_with_two_ends(tmp_path):
    keras.utils.set_random_seed(0)
    inside = keras.Sequential(
        [
            keras.Input((10, 4)),
            layers.Conv1D(4, 3, padding="same", name="conv"),
            layers.UpSampling1D(2, name="wide"),
        ],
        name="inside",
    )
    a, b = keras.Input((10, 4), name="a"), keras.Input((10, 4), name="b")
    first, second = inside(a), inside(b)
    joined = layers.Concatenate(axis=1, name="joined")([first, second, inside(inside(a)[:, ::2])])
    model = keras.Model(
        [a, b],
        {"long": layers.GlobalMaxPooling1D()(joined), "short": ops.transpose(first, (0, 2, 1))},
    )
    quantized = nets.calibrated(nets.roughen(model, 0, False))
    assert_exact(quantized, tmp_path / "m.tflite", DEFAULT_RUNTIMES)
    graph = lower(quantized)
    assert (
        sum(tensor.dtype == "int8" and tensor.data is not None for tensor in graph.tensors.values())
        == 1
    )
    assert len({graph.tensors[name].shape for name in graph.outputs}) == 2


@pytest.mark.parametrize(
    "size,pads,stride,kinds",
    [
        (8, ((0, 1), (0, 1)), 2, ["CONV_2D"]),
        (8, ((1, 1), (1, 1)), 1, ["CONV_2D"]),
        (9, ((1, 1), (1, 1)), 2, ["CONV_2D"]),
        (8, ((1, 1), (1, 1)), 2, ["PAD", "CONV_2D"]),
        (8, ((0, 1), (0, 1)), 1, ["PAD", "CONV_2D"]),
    ],
)
def test_padding_that_same_would_add_needs_no_operator(size, pads, stride, kinds, tmp_path):
    inputs = keras.Input((size, size, 2))
    outputs = layers.Conv2D(3, 3, stride)(layers.ZeroPadding2D(pads)(inputs))
    model = tq.quantize(keras.Model(inputs, outputs))
    x = np.random.default_rng(0).normal(size=(4, size, size, 2)).astype(np.float32)
    graph = lower(tq.calibrate(model, x, verbose=0))
    assert [op.kind for op in graph.ops] == kinds
    export_tflite(model, tmp_path / "m.tflite")
    report = verify(model, tmp_path / "m.tflite", x)
    assert report.exact, report
