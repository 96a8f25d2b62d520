"""`integer_model` against the numpy simulator, over every tensor, and against LiteRT."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.export import graphs
from tests.export import keras_nets as nets
from tests.export.layer_cases import CASES, TRANSPOSED, joined
from tfqreg.export import export_tflite, simulate
from tfqreg.export.ir import Graph
from tfqreg.export.kernels.call import Call
from tfqreg.export.lowering.lower import lower
from tfqreg.export.tf_simulator.model import integer_model
from tfqreg.export.tf_simulator.steps import is_fast
from tfqreg.export.verification.runtimes import missing, run
from tfqreg.export.verification.samples import graph_inputs

IMAGE = (8, 6, 12)


def assert_equal(graph: Graph, samples: dict[str, np.ndarray]) -> None:
    """Every tensor of the Keras model equals the simulator's; `samples` have the inputs' dtypes."""
    everything = replace(graph, outputs=[op.outputs[0] for op in graph.ops])
    model = integer_model(everything, dequantized=False)
    found = model(
        [in_own_units(graph, name, samples[name]) for name in graph.inputs], training=False
    )
    expected = simulate(graph, samples, "f32")
    wrong = {}
    for name, x in zip(everything.outputs, found, strict=True):
        codes = np.asarray(x)
        assert (codes.dtype, codes.shape) == (expected[name].dtype, expected[name].shape)
        if count := int((codes != expected[name]).sum()):
            wrong[name] = count
    assert wrong == {}


def in_own_units(graph: Graph, name: str, codes: np.ndarray) -> np.ndarray:
    grid = graph.tensors[name].quantization
    return codes if grid is None else (codes.astype(np.float32) - grid.zero_point) * grid.scale[0]


def call_of(graph: Graph, op) -> Call:
    return Call(
        op, tuple(graph.tensors[name] for name in op.inputs), graph.tensors[op.outputs[0]], "f32"
    )


def tables(seed: int) -> Graph:
    """Operators of two tensors and of one, with constants of every shape they come in."""
    b = graphs.Builder(seed)
    x, y, pixel = b.input(IMAGE), b.input(IMAGE), b.input((1, 1, 12))
    constants = [
        b.constant("c", b.rng.integers(-128, 128, shape).astype(np.int8), np.float32([0.02]))
        for shape in ((), (12,), (1, 1, 12), (1, 8, 6, 1))
    ]
    for kind in ("ADD", "SUB", "MUL"):
        for pair in ((x, y), (x, x), (pixel, x), *((x, c) for c in constants), (constants[1], x)):
            b.op(kind, list(pair), b.activation(kind.lower(), IMAGE, 0.06), activation="RELU")
    for kind, grid in (("LOGISTIC", (1 / 256, -128)), ("TANH", (1 / 128, 0)), ("HARD_SWISH", ())):
        b.op(kind, [x], b.activation(kind.lower(), IMAGE, *grid))
    slopes = b.constant(
        "slopes", b.rng.integers(-128, 128, (1, 1, 12)).astype(np.int8), np.float32([0.01])
    )
    b.op("PRELU", [x, slopes], b.activation("prelu", IMAGE))
    b.op("LEAKY_RELU", [x], b.activation("leaky", IMAGE), alpha=0.1)
    return b.finish()


def products(seed: int) -> Graph:
    """Sums beyond float32, grouped and transposed convolutions, and images wide enough for other
    algorithms.
    """
    b = graphs.Builder(seed)
    x = b.input((12, 12, 64))
    wide = graphs.conv(b, x, 64)
    graphs.conv(b, wide, 64, (3, 3), (1, 1), "VALID")
    graphs.depthwise(b, x, 1, (3, 3), (1, 2))
    same = {"padding": "SAME", "stride": (1, 1), "dilation": (1, 1), "activation": "NONE"}
    weights, bias, scale = b.weights(x, (8, 3, 3, 16), 8, True, 0, 144)
    b.op("CONV_2D", [x, weights, bias], b.activation("grouped", (12, 12, 8), scale), **same)
    for offset in (2**24 + 1, 2**30 + 1):
        weights, bias, scale = b.weights(x, (8, 3, 3, 64), 8, True, 0, 576)
        large = graphs.Tensor(f"large{offset}", (8,), "int32", b.graph.tensors[bias].quantization)
        data = (b.graph.tensors[bias].data + offset).astype(np.int32)
        b.graph.add(replace(large, data=data))
        b.op(
            "CONV_2D",
            [x, weights, large.name],
            b.activation("sums", (12, 12, 8), scale * offset / 1e6),
            **same,
        )
    for padding, size in (("SAME", 24), ("VALID", 25)):
        weights, bias, scale = b.weights(x, (5, 3, 3, 64), 5, True, 0, 150)
        shape = b.constant("shape", np.array([1, size, size, 5], np.int32))
        output = b.activation("transposed", (size, size, 5), scale)
        b.op("TRANSPOSE_CONV", [shape, weights, x, bias], output, padding=padding, stride=(2, 2))
    return b.finish()


@pytest.mark.parametrize("make", [graphs.every_operator, graphs.residual_net, tables, products])
def test_every_operator(make):
    for seed in range(2):
        graph = make(seed)
        assert_equal(graph, graphs.codes(graph, 5, seed))


def test_only_what_has_no_fast_form_calls_numpy():
    slow = {"SOFTMAX", "RESIZE_BILINEAR"}
    for make in (graphs.every_operator, graphs.residual_net, tables, products):
        graph = make(0)
        called = {op.kind for op in graph.ops if not is_fast(call_of(graph, op))}
        assert called <= slow | {"DEPTHWISE_CONV_2D"}
        uneven = [op.attributes for op in graph.ops if op.kind in called - slow]
        assert all(
            a["stride"] != (1, 1) and (a["stride"] == (1, 2) or a["dilation"] != (1, 1))
            for a in uneven
        )


@pytest.mark.parametrize("seed", [0, 5])
def test_random_nets(seed):
    model = nets.random_net(seed)
    graph = lower(model, float_io=seed % 2 == 0)
    assert_equal(graph, dict(graph_inputs(graph, nets.samples(model, 6, seed + 1))))


@pytest.mark.parametrize("cases", [CASES, TRANSPOSED], ids=["layers", "transposed"])
def test_every_layer(cases):
    model = nets.calibrated(joined(cases))
    graph = lower(model)
    assert_equal(graph, dict(graph_inputs(graph, nets.samples(model, 4, 1))))


@pytest.mark.skipif(missing("litert") is not None, reason="ai_edge_litert is not installed")
@pytest.mark.parametrize("make", [nets.mobile, nets.two_ends])
def test_litert(make, tmp_path):
    model = nets.calibrated(nets.roughen(make()))
    x = nets.samples(model, 20, 2)
    graph = export_tflite(model, tmp_path / "m.tflite", float_io=True)
    expected = run(
        (tmp_path / "m.tflite").read_bytes(), dict(zip(graph.inputs, x, strict=True)), "litert"
    )
    found = integer_model(model).predict(x[0] if len(x) == 1 else x, batch_size=8, verbose=0)
    for name, y in zip(graph.outputs, keras.tree.flatten(found), strict=True):
        np.testing.assert_array_equal(y, expected[name])
        assert len(np.unique(y)) > 8


def test_evaluate():
    model = nets.calibrated(nets.mobile())
    x, y = nets.samples(model, 50, 3)[0], np.arange(50) % 10
    integers = integer_model(model)
    integers.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    scores = integers.predict(x, verbose=0)
    evaluated = integers.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx((scores.argmax(1) == y).mean())
    assert integers.count_params() == 0


def test_outputs_keep_names_and_nesting():
    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, name="conv")(image))
    ends = {
        "kind": keras.layers.Dense(4, name="kind")(x),
        "size": keras.layers.Dense(2, name="size")(x),
    }
    x = {"image": np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(np.float32)}
    model = tq.calibrate(tq.quantize(keras.Model({"image": image}, ends)), x, verbose=0)
    integers = integer_model(model)
    found, expected = integers.predict(x, verbose=0), model.predict(x, verbose=0)
    assert {name: y.shape for name, y in found.items()} == {"kind": (8, 4), "size": (8, 2)}
    for name, y in found.items():
        np.testing.assert_allclose(y, expected[name], atol=0.1 * np.abs(expected[name]).max())
    integers.compile(loss={"kind": "mse", "size": "mae"})
    targets = {"kind": np.zeros((8, 4)), "size": np.zeros((8, 2))}
    kind, size = np.square(found["kind"]).mean(), np.abs(found["size"]).mean()
    losses = integers.evaluate(x, targets, verbose=0)
    np.testing.assert_allclose(losses, [kind + size, kind, size], rtol=1e-5)


def test_a_layer_that_makes_two_outputs():
    image = keras.Input((6,), name="image")
    head = keras.layers.Dense(6, name="head")
    first = head(image)
    model = nets.calibrated(keras.Model(image, [first, head(first)]))
    x = nets.samples(model, 4)[0]
    assert [y.shape for y in integer_model(model).predict(x, verbose=0)] == [(4, 6), (4, 6)]


def test_codes():
    model = nets.calibrated(nets.lenet())
    graph = lower(model)
    x = nets.samples(model, 4)
    found = integer_model(model, dequantized=False).predict(x[0], verbose=0)
    assert found.dtype == np.int8
    expected = simulate(lower(model, float_io=True), x, keep=None)
    np.testing.assert_array_equal(found, expected[graph.outputs[0]])


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        ValueError, match=r"Set KERAS_BACKEND=tensorflow .* Received: backend='jax'"
    ):
        integer_model(graphs.residual_net(0))
