"""Element-wise layers and activation functions: which operators they become, and that no element
differs.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfqreg as tq
from tests.export import keras_nets as nets
from tests.export.keras_nets import conv, grid
from tfqreg.export import export_tflite, verify
from tfqreg.export.lowering.lower import lower
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.runtimes import missing
from tfqreg.export.verification.samples import graph_inputs

RUNTIMES = [
    name
    for name in ("litert", "tensorflow", "tflite-runtime-ref", "tflite-micro")
    if not missing(name)
]
CHANNELS = np.float32([0.5, -1.5, 0.0, 2.0])
Tensor = Any


def point(x: Tensor, name: str = "point", channels: int = 4, **kwargs: Any) -> Tensor:
    return layers.Conv2D(channels, 1, name=name, **kwargs)(x)


def squeezed(x: Tensor) -> Tensor:
    return layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)


def spelled_out(x: Tensor) -> Tensor:
    return layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)


# name: what stands after a convolution of 4 channels, and the operators of the whole net.
LAYERS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "sigmoid": (ops.sigmoid, ["CONV_2D", "LOGISTIC"]),
    "tanh": (layers.Activation("tanh"), ["CONV_2D", "TANH"]),
    "sigmoid inside": (lambda x: point(ops.sigmoid(x)), ["CONV_2D", "LOGISTIC", "CONV_2D"]),
    "swish": (layers.Activation("swish"), ["CONV_2D", "LOGISTIC", "MUL"]),
    "swish function": (ops.silu, ["CONV_2D", "LOGISTIC", "MUL"]),
    "swish in a layer": (
        lambda x: point(x, activation="swish"),
        ["CONV_2D", "CONV_2D", "LOGISTIC", "MUL"],
    ),
    "hard swish": (layers.Activation("hard_swish"), ["CONV_2D", "HARD_SWISH"]),
    "hard swish spelled out": (lambda x: x * spelled_out(x), ["CONV_2D", "HARD_SWISH"]),
    "hard swish of a layer": (
        lambda x: layers.Multiply()([ops.hard_sigmoid(x), x]),
        ["CONV_2D", "HARD_SWISH"],
    ),
    "hard sigmoid": (layers.Activation("hard_sigmoid"), ["CONV_2D"]),
    "hard sigmoid spelled out": (spelled_out, ["CONV_2D"]),
    "hard sigmoid of codes": (
        lambda x: ops.hard_sigmoid(ops.tanh(x)),
        ["CONV_2D", "TANH", "DEPTHWISE_CONV_2D"],
    ),
    "leaky relu": (layers.LeakyReLU(0.1), ["CONV_2D", "LEAKY_RELU"]),
    "sloped relu": (layers.ReLU(negative_slope=0.2), ["CONV_2D", "LEAKY_RELU"]),
    "relu up to 2": (layers.ReLU(2.0), ["CONV_2D"]),
    "prelu": (layers.PReLU("uniform"), ["CONV_2D", "PRELU"]),
    "prelu by channel": (layers.PReLU("uniform", shared_axes=[1, 2]), ["CONV_2D", "PRELU"]),
    "scaled": (lambda x: x * 0.3 / 2, ["CONV_2D"]),
    "scaled and shifted by channel": (lambda x: x * CHANNELS + 1.5, ["CONV_2D"]),
    "negative": (lambda x: ops.relu(-x), ["CONV_2D"]),
    "scaled codes": (lambda x: ops.tanh(x) * 0.5, ["CONV_2D", "TANH", "DEPTHWISE_CONV_2D"]),
    "scaled codes into a kernel": (
        lambda x: point(layers.ZeroPadding2D()(ops.tanh(x) * 0.5)),
        ["CONV_2D", "TANH", "PAD", "CONV_2D"],
    ),
    "three terms": (lambda x: layers.Add()([x, point(x), x]), ["CONV_2D", "CONV_2D", "ADD", "ADD"]),
    "difference": (lambda x: ops.relu(x - point(x)), ["CONV_2D", "CONV_2D", "SUB"]),
    "average": (
        lambda x: layers.Average()([x, point(x)]),
        ["CONV_2D", "CONV_2D", "ADD", "DEPTHWISE_CONV_2D"],
    ),
    "average into a kernel": (
        lambda x: point(layers.Average()([x, x, x]), "last"),
        ["CONV_2D", "ADD", "ADD", "CONV_2D"],
    ),
    "broadcast sum": (lambda x: x + squeezed(x), ["CONV_2D", "MEAN", "ADD"]),
    "squeeze and excite": (
        lambda x: layers.Multiply()([x, spelled_out(point(squeezed(x)))]),
        ["CONV_2D", "MEAN", "CONV_2D", "MUL"],
    ),
    "maximum": (lambda x: layers.Maximum()([x, point(x)]), ["CONV_2D", "CONV_2D", "MAXIMUM"]),
    "minimum with a constant": (lambda x: ops.minimum(x, 0.5), ["CONV_2D", "MINIMUM"]),
    "product with an image": (
        lambda x: x * np.float32(np.arange(8)).reshape(8, 1, 1),
        ["CONV_2D", "MUL"],
    ),
    "softmax of rows": (
        lambda x: layers.Softmax()(layers.Reshape((8, -1))(x)),
        ["CONV_2D", "RESHAPE", "SOFTMAX"],
    ),
    "softmax inside": (lambda x: point(layers.Softmax()(x)), ["CONV_2D", "SOFTMAX", "CONV_2D"]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    """The simulator follows Keras: the same tensors on the same grids.

    The bias in int32 and float32's last bits move a sum by one step now and then; where the next
    grid is finer, that is several of its steps: up to 7 after a tanh.
    """
    function, expected = LAYERS[name]
    keras.utils.set_random_seed(2)
    x = keras.Input((8, 8, 3), name="x")
    model = nets.calibrated(keras.Model(x, function(conv(padding="same")(x))))
    graph = lower(model)
    assert [op.kind for op in graph.ops] == expected
    for error, spread in nets.output_errors(model, graph, nets.samples(model, 8, 1)):
        assert spread >= 6
        assert error.max() <= 8
        assert error.mean() <= 0.3


@pytest.mark.parametrize("part", range(3))
def test_no_element_differs(part, tmp_path):
    keras.utils.set_random_seed(part)
    x = keras.Input((8, 8, 3), name="x")
    source = conv(padding="same")(x)
    outputs = []
    for i, (function, _) in enumerate(list(LAYERS.values())[part::3]):
        # A fresh net for each, since the table's layers have been built.
        inside = keras.Input((8, 8, 4))
        outputs.append(keras.Model(inside, function(inside), name=f"part_{i}")(source))
    model = nets.calibrated(keras.Model(x, outputs))
    export_tflite(model, tmp_path / "m.tflite")
    report = verify(model, tmp_path / "m.tflite", nets.samples(model, 4), RUNTIMES)
    assert list(report.runtimes) == RUNTIMES
    assert report.exact, str(report)


PIXELS = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3)).astype(np.float32)
INPUTS = {
    "rescaled": (lambda x: layers.Rescaling(1 / 255)(x), ["CONV_2D"]),
    "rescaled and padded": (
        lambda x: layers.ZeroPadding2D(2)(layers.Rescaling(1 / 255)(x)),
        ["PAD", "CONV_2D"],
    ),
    "not normalised": (lambda x: layers.Normalization()(layers.Rescaling(1 / 255)(x)), ["CONV_2D"]),
    "shifted": (
        lambda x: layers.Rescaling(1 / 127.5, offset=-1)(x),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
    ),
    "normalised": (
        lambda x: layers.Rescaling([2.0, 1.0, 3.0])(
            layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(
                layers.Rescaling(1 / 255)(x)
            )
        ),
        ["DEPTHWISE_CONV_2D", "CONV_2D"],
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_pixels_go_in_as_they_are(name, tmp_path):
    function, expected = INPUTS[name]
    x = keras.Input((8, 8, 3), name="x")
    model = tq.calibrate(tq.quantize(keras.Model(x, conv()(function(x)))), PIXELS, verbose=0)
    graph = export_tflite(model, tmp_path / "m.tflite")
    assert [op.kind for op in graph.ops] == expected
    assert verify(model, tmp_path / "m.tflite", PIXELS[:4], RUNTIMES).exact
    pixel_grid = graph.tensors["x"].quantization
    assert pixel_grid.zero_point == -128
    assert pixel_grid.scale[0] == pytest.approx(1, rel=0.01)
    (error, spread), *_ = nets.output_errors(model, graph, [PIXELS])
    assert spread > 50
    assert error.max() <= 1.001


def test_adapted_statistics_are_kept():
    layer = layers.Normalization()
    layer.adapt(PIXELS)
    x = keras.Input((8, 8, 3), name="x")
    model = keras.Model(x, layers.Flatten()(layer(x)))
    np.testing.assert_allclose(tq.quantize(model)(PIXELS), model(PIXELS), atol=1e-5)


def test_a_hard_sigmoid_clips_where_its_grid_does_not():
    x = keras.Input((64, 1, 1), name="x")
    graph = lower(
        keras.Model(x, grid(0.01)(layers.Activation("hard_sigmoid", name="h")(grid(0.1, -128)(x))))
    )
    assert [op.kind for op in graph.ops] == ["DEPTHWISE_CONV_2D", "MINIMUM"]
    values = np.linspace(-5, 5, 64, dtype=np.float32).reshape(1, 64, 1, 1)
    codes = simulate(graph, graph_inputs(graph, values))[graph.outputs[0]].astype(int) + 128
    rounded = np.rint(values / np.float32(0.1)) * 0.1
    np.testing.assert_allclose(codes * 0.01, np.clip(rounded / 6 + 0.5, 0, 1), atol=0.0051)


def test_hard_functions_of_shared_and_nested_layers():
    clip = layers.ReLU(6.0, name="clip")
    inside = keras.Input((8, 8, 4))
    block = keras.Model(inside, inside * (clip(inside + 3.0) / 6.0), name="block")
    x = keras.Input((8, 8, 3), name="x")
    model = keras.Model(x, block(block(conv(padding="same")(x))))
    assert [op.kind for op in lower(nets.calibrated(model)).ops] == [
        "CONV_2D",
        "HARD_SWISH",
        "HARD_SWISH",
    ]
    alone = keras.Model(
        x, clip(conv(padding="same", name="other")(x)) + block(conv(padding="same")(x))
    )
    kinds = [op.kind for op in lower(nets.calibrated(alone)).ops]
    assert "HARD_SWISH" not in kinds  # the clip is part of the pattern in one of its two places


@pytest.mark.parametrize("kind", ["MUL", "HARD_SWISH", "SUB"])
def test_operators_next_to_a_coarse_grid(kind):
    """What a runtime overflows at, or refuses, is requantized first."""
    x = keras.Input((64,), name="x")
    coarse = grid(50.0, -128)(x)
    y = {
        "MUL": coarse * ops.tanh(coarse),
        "HARD_SWISH": ops.hard_silu(coarse),
        "SUB": coarse - ops.tanh(coarse),
    }[kind]
    graph = lower(keras.Model(x, grid(0.001, -128)(y)))
    assert [op.kind for op in graph.ops if op.kind != "TANH"] == ["QUANTIZE", kind]
    codes = simulate(
        graph, graph_inputs(graph, np.linspace(-900, 900, 64, dtype=np.float32)[None])
    )[graph.outputs[0]]
    assert set(np.unique(codes)) <= {-128, 0, 127}


def test_a_much_coarser_grid_takes_two_steps():
    x = keras.Input((64,), name="x")
    graph = lower(keras.Model(x, grid(0.3, -128)(grid(0.001, -128)(x))))
    assert [op.kind for op in graph.ops] == ["QUANTIZE", "QUANTIZE"]
