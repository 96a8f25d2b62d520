"""What every layer becomes in the integer graph, and that it computes what Keras computes."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.export import keras_nets as nets
from tests.export.keras_nets import conv, grid, norm, sequential
from tfqreg.export.ir import Graph
from tfqreg.export.lowering.lower import lower
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.samples import graph_inputs


@pytest.fixture(autouse=True)
def seed() -> None:
    keras.utils.set_random_seed(0)


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def lowered(model: keras.Model, mean: float = 0.3) -> Graph:
    """The graph of a model, once it was seen to agree with Keras.

    Where a value lies next to the middle between two codes, float32 and integers part by a step,
    and what is computed from it moves along: by 2 steps here at most. On average far less, but for
    a softmax, which Keras does not round.
    """
    graph = lower(model)
    for error, spread in nets.output_errors(model, graph, nets.samples(model, 8, 1)):
        assert spread > 1
        assert error.max() <= 3.01
        assert error.mean() <= mean
    return graph


LAYERS = {
    "conv": (lambda: [conv()], ["CONV_2D"]),
    "conv, no bias": (lambda: [conv(use_bias=False)], ["CONV_2D"]),
    "conv with relu": (lambda: [conv(activation="relu")], ["CONV_2D"]),
    "conv with relu6": (lambda: [conv(activation="relu6")], ["CONV_2D"]),
    "dilated": (lambda: [conv(dilation_rate=(2, 3), padding="same")], ["CONV_2D"]),
    "strided": (lambda: [conv(strides=(2, 1), padding="same")], ["CONV_2D"]),
    "depthwise": (lambda: [layers.DepthwiseConv2D((3, 2), depth_multiplier=3)],
                  ["DEPTHWISE_CONV_2D"]),
    "depthwise, strided": (lambda: [layers.DepthwiseConv2D(3, 2, "same", activation="relu")],
                           ["DEPTHWISE_CONV_2D"]),
    "separable": (lambda: [layers.SeparableConv2D(4, 3)], ["DEPTHWISE_CONV_2D", "CONV_2D"]),
    "dense": (lambda: [layers.Flatten(), layers.Dense(5)], ["RESHAPE", "FULLY_CONNECTED"]),
    "norm": (lambda: [conv(), norm()], ["CONV_2D"]),
    "norm, relu": (lambda: [conv(), norm(), layers.ReLU()], ["CONV_2D"]),
    "norm, norm": (lambda: [conv(), norm("a"), norm("b")], ["CONV_2D"]),
    "relu, norm": (lambda: [conv(), layers.ReLU(), norm()], ["CONV_2D", "DEPTHWISE_CONV_2D"]),
    "norm after dense": (
        lambda: [layers.Flatten(), layers.Dense(5), norm(), layers.ReLU()],
        ["RESHAPE", "FULLY_CONNECTED"],
    ),
    "norm after a pool": (
        lambda: [conv(), layers.MaxPooling2D(), norm()],
        ["CONV_2D", "MAX_POOL_2D", "DEPTHWISE_CONV_2D"],
    ),
    "norm first": (lambda: [norm()], ["DEPTHWISE_CONV_2D"]),
    "relu layer": (lambda: [conv(), layers.ReLU()], ["CONV_2D"]),
    "relu6 layer": (lambda: [conv(), layers.ReLU(max_value=6)], ["CONV_2D"]),
    "relu activation": (lambda: [conv(), layers.Activation("relu")], ["CONV_2D"]),
    "relu6 activation": (lambda: [conv(), layers.Activation("relu6")], ["CONV_2D"]),
    "linear activation": (lambda: [conv(), layers.Activation("linear")], ["CONV_2D"]),
    "relu first": (lambda: [layers.ReLU()], ["RELU"]),
    "relu6 first": (lambda: [layers.ReLU(6)], ["RELU"]),
    "relu, relu6": (lambda: [conv(activation="relu"), layers.ReLU(6)], ["CONV_2D"]),
    "relu of a mean": (lambda: [layers.GlobalAveragePooling2D(), layers.ReLU()], ["MEAN"]),
    "pool of rounded values": (lambda: [layers.MaxPooling2D(3, 2, "same")], ["MAX_POOL_2D"]),
    "pool after conv": (lambda: [conv(), layers.MaxPooling2D()], ["CONV_2D", "MAX_POOL_2D"]),
    "pools after conv": (
        lambda: [conv(), layers.MaxPooling2D(2, 1, name="p"), layers.MaxPooling2D(2, 1, name="q")],
        ["CONV_2D", "MAX_POOL_2D", "MAX_POOL_2D"],
    ),
    "pool, relu": (lambda: [conv(), layers.MaxPooling2D(), layers.ReLU()],
                   ["CONV_2D", "MAX_POOL_2D", "QUANTIZE"]),
    "average pool": (lambda: [layers.AveragePooling2D((2, 3), 2, "same")], ["AVERAGE_POOL_2D"]),
    "global average": (lambda: [layers.GlobalAveragePooling2D()], ["MEAN"]),
    "global average, kept": (
        lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Conv2D(2, 1)],
        ["MEAN", "CONV_2D"],
    ),
    "flatten": (lambda: [layers.Flatten()], ["RESHAPE"]),
    "reshape": (lambda: [layers.Reshape((4, -1, 6))], ["RESHAPE"]),
    "dropout": (lambda: [layers.Dropout(0.5), conv(), layers.Dropout(0.5)], ["CONV_2D"]),
    "dropout in between": (lambda: [conv(), layers.Dropout(0.5), layers.ReLU()],
                           ["CONV_2D", "QUANTIZE"]),
    "flip": (lambda: [layers.RandomFlip(), conv()], ["CONV_2D"]),
    "padding": (lambda: [layers.ZeroPadding2D(((1, 0), (0, 2))), conv()], ["PAD", "CONV_2D"]),
    "no padding": (lambda: [layers.ZeroPadding2D(0), conv()], ["CONV_2D"]),
    "softmax layer": (lambda: [layers.Flatten(), layers.Dense(5), layers.Softmax()],
                      ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]),
    "softmax activation": (
        lambda: [layers.Flatten(), layers.Dense(5), layers.Activation("softmax")],
        ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"],
    ),
    "softmax in dense": (lambda: [layers.Flatten(), layers.Dense(5, "softmax")],
                         ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]),
    "softmax inside": (lambda: [layers.Softmax(), conv()], ["SOFTMAX", "CONV_2D"]),
    "point windows that skip": (lambda: [layers.Conv2D(2, 1, 2, "same")], ["CONV_2D"]),
    "windows that skip rows": (lambda: [layers.Conv2D(2, (1, 3), (3, 1), "same")],
                               ["PAD", "CONV_2D"]),
    "depthwise that skips rows": (lambda: [layers.DepthwiseConv2D((1, 3), 3, "same")],
                                  ["PAD", "DEPTHWISE_CONV_2D"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    steps, expected = LAYERS[name]
    assert kinds(lowered(nets.calibrated(sequential(*steps())))) == expected


@pytest.mark.parametrize(
    ("function", "activation"), [(keras.ops.relu, "RELU"), (keras.ops.relu6, "RELU6")]
)
def test_functions_fuse_as_layers_do(function, activation):
    x = keras.Input((8, 8, 3))
    (op,) = lowered(nets.calibrated(keras.Model(x, function(conv()(x))))).ops
    assert op.attributes["activation"] == activation


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_attributes_of_windows(padding):
    steps = [
        layers.DepthwiseConv2D(
            (3, 2), depth_multiplier=2, dilation_rate=2, padding=padding, activation="relu6"
        ),
        layers.Conv2D(2, (2, 1), (2, 1), padding, activation="relu"),
        layers.AveragePooling2D((1, 2), (2, 1), padding),
    ]
    # An average of two lies half-way as often as not, which int8 rounds away from zero and Keras
    # up.
    depthwise, conv, pool = lowered(
        nets.calibrated(sequential(*steps, shape=(9, 9, 3))), mean=0.5
    ).ops
    same = {"padding": padding.upper()}
    assert depthwise.attributes == same | {
        "stride": (1, 1), "dilation": (2, 2), "depth_multiplier": 2, "activation": "RELU6",
    }  # fmt: skip
    assert conv.attributes == same | {"stride": (2, 1), "dilation": (1, 1), "activation": "RELU"}
    assert pool.attributes == same | {"stride": (2, 1), "filter": (1, 2), "activation": "NONE"}


def test_padding_made_explicit_reads_what_same_reads():
    """The stride passes over rows, and the columns need one of padding."""
    graph = lowered(nets.calibrated(sequential(layers.Conv2D(2, (1, 3), (3, 2), "same"))))
    pad, conv = graph.ops
    assert graph.tensors[pad.inputs[1]].data.tolist() == [[0, 0], [0, 0], [0, 1], [0, 0]]
    assert conv.attributes["padding"] == "VALID"


@pytest.mark.parametrize("per_channel", [None, True])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_weights_of_few_bits(bits, per_channel):
    rule = tq.Rule("", weights=tq.Uniform(bits, per_channel=per_channel))
    steps = [
        conv(),
        norm(),
        layers.DepthwiseConv2D(2, name="depthwise"),
        layers.Flatten(),
        layers.Dense(3, name="dense"),
    ]
    model = nets.calibrated(sequential(*steps, extremes=False), [rule])
    graph = lowered(model)
    for path in ("conv", "depthwise", "dense"):
        tensor, codes = graph.tensors[f"{path}/kernel"], model.get_layer(path).encode()["kernel"][0]
        assert tensor.bits == bits
        # BatchNorm scales differ by channel, and so do those of its convolution.
        several = per_channel or path == "conv"
        assert tensor.quantization.scale.size == (
            tensor.shape[tensor.quantization.axis] if several else 1
        )
        top = max(1, 2 ** (bits - 1) - 1)
        assert set(np.unique(tensor.data >> tensor.shift)) <= set(range(-top, top + 1))
        assert sorted(np.abs(tensor.data.astype(int)).ravel() >> tensor.shift) == sorted(
            np.abs(codes).ravel()
        )


def test_pruned_weights_are_zero_codes():
    rule = tq.Rule("", weights=tq.Uniform(4), prune=tq.PartialL2(0.75))
    model = nets.calibrated(sequential(conv(), layers.ReLU(), conv("second")), [rule])
    for layer in model.layers:
        if isinstance(layer, tq.Quantized):
            w = layer.layer.kernel
            magnitude = np.abs(np.asarray(w))
            layer.kernels["kernel"].freeze(w, magnitude > np.quantile(magnitude, 0.75))
    graph = lowered(model)
    for name in ("conv/kernel", "second/kernel"):
        assert np.mean(graph.tensors[name].data == 0) >= 0.75


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_activations_of_few_bits(bits, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    x = keras.Input((6, 6, 3), name="x")
    y = tq.Quantized(conv(), weights=tq.Uniform(8))(grid(0.03, -128)(x))
    model = keras.Model(x, grid(1.5 * 2**-bits, low, bits)(y))
    graph = lowered(model)
    (name,) = graph.outputs
    zero_point = 127 - (2**bits - 1) - low
    assert graph.tensors[name].quantization.zero_point == zero_point
    codes = simulate(graph, graph_inputs(graph, nets.samples(model, 16)))[name]
    assert (codes.min(), codes.max()) == (zero_point + low, 127)  # both ends clip
    assert kinds(graph) == ["CONV_2D"] + ["MAXIMUM"] * (signed and bits < 8)
    assert graph.ops[0].attributes["activation"] == ("NONE" if signed or bits == 8 else "RELU")


@pytest.mark.parametrize("float_io", [False, True])
@pytest.mark.parametrize("low", [-8, 0])
def test_inputs_of_few_bits_clip_at_both_ends(low, float_io):
    x = keras.Input((4, 4, 1), name="x")
    model = keras.Model(x, layers.Flatten()(grid(0.25, low, 4)(x)))
    values = np.linspace(-5, 5, 16, dtype=np.float32).reshape(1, 4, 4, 1) + np.float32(0.01)
    graph = lower(model, float_io)
    result = simulate(graph, graph_inputs(graph, values))[graph.outputs[0]]
    if not float_io:
        q = graph.tensors[graph.outputs[0]].quantization
        result = (result - np.float32(q.zero_point)) * q.scale
    np.testing.assert_array_equal(result, model(values))
    assert (
        kinds(graph) == ["QUANTIZE"] * float_io + ["MAXIMUM", "RESHAPE"] + ["DEQUANTIZE"] * float_io
    )


def test_an_input_may_pass_what_only_training_uses():
    x = keras.Input((8, 8, 3), name="x")
    y = grid(0.05, -128)(layers.RandomFlip()(layers.Dropout(0.5)(x)))
    assert kinds(lowered(keras.Model(x, layers.MaxPooling2D()(y)))) == ["MAX_POOL_2D"]


def test_a_narrower_grid_of_one_zero_point_still_clips():
    """8 bits signed and 7 bits unsigned share zero point 0: on one scale, only the lower end tells
    them apart.
    """
    x = keras.Input((20,), name="x")
    model = keras.Model(x, grid(0.1, 0, 7)(grid(0.1, -128)(x)))
    assert kinds(lowered(model)) == ["MAXIMUM"]


def test_what_cannot_leave_its_grid_is_not_clipped_again():
    x = keras.Input((8, 8, 3), name="x")
    y = nets.calibrated(
        keras.Model(x, layers.Flatten()(layers.AveragePooling2D(2)(layers.ZeroPadding2D()(x)))),
        None,
        4,
    )
    assert kinds(lowered(y)) == ["MAXIMUM", "PAD", "AVERAGE_POOL_2D", "RESHAPE"]


@pytest.mark.parametrize(
    "add", [lambda x, y: layers.Add()([x, y]), lambda x, y: x + y], ids=["layer", "operator"]
)
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_additions(add, activation):
    x = keras.Input((8, 8, 3), name="x")
    y = add(layers.Conv2D(3, 3, padding="same", name="conv")(x), x)
    y = {"NONE": lambda y: y, "RELU": layers.ReLU(), "RELU6": layers.ReLU(6)}[activation](y)
    conv, add = lowered(nets.calibrated(keras.Model(x, y))).ops
    assert (add.kind, add.inputs, add.attributes) == (
        "ADD",
        (conv.outputs[0], "x"),
        {"activation": activation},
    )


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
@pytest.mark.parametrize("ratio", [250, 300, 20000])
def test_additions_next_to_a_coarse_grid(ratio, activation):
    """A branch of zeros has any scale, and XNNPACK's addition overflows from 256 times its
    output's.
    """
    inputs = x, zeros = keras.Input((64,), name="x"), keras.Input((64,), name="zeros")
    total = grid(0.05, -128)(x) + grid(0.05 * ratio, -128)(zeros)
    graph = lower(keras.Model(inputs, grid(0.05, -128)(layers.Activation(activation)(total))))
    assert kinds(graph) == ["QUANTIZE"] * (ratio > 250) + ["ADD"]
    values = np.linspace(-8, 8, 64, dtype=np.float32)[None]
    codes = simulate(graph, graph_inputs(graph, [values, 0 * values]))[graph.outputs[0]]
    low, high = {"linear": (-128, 127), "relu": (0, 127), "relu6": (0, 120)}[activation]
    np.testing.assert_allclose(codes * 0.05, np.clip(values, low * 0.05, high * 0.05), atol=0.026)
    # One step of the coarse branch is more than all of the output.
    ones = np.full_like(values, 0.05 * ratio)
    assert (
        simulate(graph, graph_inputs(graph, [values, ones]))[graph.outputs[0]] >= high - 6
    ).all()


def test_a_relu6_out_of_reach_is_a_relu():
    x = keras.Input((8, 8, 3), name="x")
    dead = tq.Quantized(conv(activation="relu6"))(grid(0.05, -128)(x))
    graph = lower(keras.Model(x, grid(1e-20)(layers.ReLU(6)(grid(1e-20)(dead)))))
    assert [op.attributes.get("activation", op.kind) for op in graph.ops] == [
        "RELU"
    ]  # the second changes nothing


def test_an_addition_of_a_tensor_to_itself():
    x = keras.Input((8, 8, 3), name="x")
    (op,) = lowered(nets.calibrated(keras.Model(x, x + x))).ops
    assert op.inputs == ("x", "x")


@pytest.mark.parametrize(
    "join", [lambda x, y: x + y, lambda x, y: layers.Concatenate()([x, y])], ids=["add", "concat"]
)
def test_a_norm_after_a_join_is_a_depthwise_kernel(join):
    x = keras.Input((8, 8, 3), name="x")
    y = join(x, layers.Conv2D(3, 1, name="conv")(x))
    graph = lowered(nets.calibrated(nets.roughen(keras.Model(x, layers.ReLU()(norm()(y))))))
    assert kinds(graph)[-1] == "DEPTHWISE_CONV_2D"
    assert graph.ops[-1].attributes["activation"] == "RELU"


@pytest.mark.parametrize("axis", [-1, 1, 2, 3])
def test_concatenations_share_one_grid(axis):
    x = keras.Input((6, 6, 3), name="x")
    y = layers.Concatenate(axis)([x, layers.Conv2D(3, 1, activation="relu", name="conv")(x), x])
    graph = lowered(nets.calibrated(keras.Model(x, y)))
    assert kinds(graph) == ["CONV_2D", "CONCATENATION"]
    assert graph.ops[-1].attributes == {"axis": axis % 4}
    assert (
        len(
            {
                graph.tensors[n].quantization.scale[0]
                for n in (*graph.ops[-1].inputs, *graph.outputs)
            }
        )
        == 1
    )


@pytest.mark.parametrize(("bits", "low", "clip"), [(8, -128, 0), (4, -8, 1), (4, 0, 1)])
def test_concatenations_of_mixed_grids_are_requantized(bits, low, clip):
    x, y = keras.Input((5,), name="x"), keras.Input((6,), name="y")
    joined = layers.Concatenate()([grid(0.1, -128)(x), grid(0.02, 0)(y)])
    model = keras.Model([x, y], grid(0.1, low, bits)(joined))
    graph = lowered(model)
    same = [kinds(graph).count("QUANTIZE"), kinds(graph)[-1 - clip :]]
    assert same == [1 if bits == 8 else 2, ["CONCATENATION"] + ["MAXIMUM"] * clip]


def test_concatenation_of_one_grid_needs_no_quantizer_of_its_own():
    x = keras.Input((5,), name="x")
    a = grid(0.1, -8, 4)(x)
    graph = lowered(keras.Model(x, grid(0.1, -8, 4)(layers.Concatenate()([a, a]))))
    assert kinds(graph) == ["MAXIMUM", "CONCATENATION"]


def test_several_inputs_and_outputs_keep_their_order():
    b, a = keras.Input((8, 8, 1), name="b"), keras.Input((8, 8, 1), name="a")
    left, right = layers.Conv2D(2, 3, name="left")(b), layers.Conv2D(2, 3, name="right")(a)
    joined = layers.Concatenate(name="joined")([left, right])
    first = layers.Conv2D(3, 1, activation="relu", name="first")(joined)
    second = layers.Dense(4, activation="softmax", name="second")(
        layers.GlobalAveragePooling2D()(first)
    )
    graph = lowered(nets.calibrated(keras.Model([b, a], [second, first])))
    assert graph.inputs == ["b", "a"]
    assert graph.outputs == ["second_softmax", "first"]


def test_nested_models_are_opened():
    inside = keras.Sequential(
        [keras.Input((8, 8, 3)), conv(), norm(), layers.Flatten(name="flat")], name="block"
    )
    x = keras.Input((8, 8, 3), name="x")
    graph = lowered(
        nets.calibrated(nets.roughen(keras.Model(x, layers.Dense(3, name="head")(inside(x)))))
    )
    assert [op.outputs for op in graph.ops] == [("block/conv",), ("block/flat",), ("head",)]


def test_shared_layers_share_their_weights_and_not_their_biases():
    layer = layers.Conv2D(3, 3, padding="same", name="conv")
    x = keras.Input((8, 8, 3), name="x")
    model = nets.calibrated(nets.roughen(keras.Model(x, layer(layers.ReLU()(layer(x))))))
    graph = lowered(model)
    first, second = (op.inputs for op in graph.ops)
    assert first[1] == second[1]
    assert first[2] != second[2]
    biases = [
        graph.tensors[name].data * graph.tensors[name].quantization.scale
        for name in (first[2], second[2])
    ]
    np.testing.assert_allclose(*biases, atol=1e-3)


def test_biases_of_zeros_are_told_apart_by_their_scales():
    x = keras.Input((6, 6, 4), name="x")
    layer = tq.Quantized(conv(padding="same", use_bias=False))
    graph = lowered(
        keras.Model(x, grid(0.03, -128)(layer(grid(0.04, -128)(layer(grid(0.02, -128)(x))))))
    )
    for op in graph.ops:
        source, kernel, bias = (graph.tensors[name].quantization.scale for name in op.inputs)
        np.testing.assert_array_equal(bias, source * kernel)


def test_shared_models_at_one_grid_store_nothing_twice():
    x = keras.Input((8, 8, 3), name="x")
    quantizer = grid(0.02)
    block = tq.Quantized(layers.Conv2D(3, 1, name="conv"))
    model = keras.Model(x, quantizer(block(quantizer(block(quantizer(x))))))
    graph = lowered(model)
    assert kinds(graph) == ["CONV_2D", "CONV_2D"]
    assert graph.ops[0].inputs[1:] == graph.ops[1].inputs[1:]


def test_shared_models():
    steps = [keras.Input((8, 8, 3)), layers.Conv2D(3, 1, activation="relu", name="conv")]
    inside, x = keras.Sequential(steps, name="block"), keras.Input((8, 8, 3), name="x")
    graph = lowered(nets.calibrated(keras.Model(x, inside(inside(x)))))
    assert [op.outputs for op in graph.ops] == [("block/conv",), ("block/conv_1",)]
    assert graph.ops[0].inputs[1] == graph.ops[1].inputs[1]


def test_two_quantizers_on_one_convolution():
    x = keras.Input((4,), name="x")
    y = tq.Quantized(layers.Dense(3, name="dense"))(grid(0.03, -128)(x))
    graph = lowered(keras.Model(x, [grid(0.02, -128)(y), grid(0.05, 0)(y)]))
    assert kinds(graph) == ["FULLY_CONNECTED", "FULLY_CONNECTED"]


def test_several_pools_keep_the_sums_they_are_given():
    x = keras.Input((8, 8, 3), name="x")
    y = layers.MaxPooling2D(2, 1)(layers.MaxPooling2D(2)(tq.Quantized(conv())(grid(0.03, -128)(x))))
    graph = lowered(keras.Model(x, grid(0.3, -8, 4)(y)))
    assert kinds(graph) == ["CONV_2D", "MAX_POOL_2D", "MAX_POOL_2D", "MAXIMUM"]


def test_layers_by_hand():
    x = keras.Input((8, 8, 3), name="x")
    y = grid(0.02, -128)(x)
    y = grid(0.02, 0)(layers.ReLU()(norm()(tq.Quantized(conv(), weights=tq.Uniform(4))(y))))
    y = grid(0.02, 0, 4)(tq.Quantized(layers.Conv2D(2, 1, activation="relu6", name="point"))(y))
    y = layers.Flatten()(layers.MaxPooling2D()(y))
    y = layers.Softmax()(grid(0.1, -128)(tq.Quantized(layers.Dense(4, name="head"))(y)))
    graph = lowered(keras.Model(x, y))
    assert kinds(graph) == [
        "CONV_2D",
        "CONV_2D",
        "MAX_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]


def test_float_ends():
    model = nets.calibrated(
        sequential(conv(), layers.Flatten(), layers.Dense(2, "softmax", name="head"))
    )
    plain, graph = lower(model), lower(model, float_io=True)
    assert kinds(graph) == ["QUANTIZE", *kinds(plain), "DEQUANTIZE"]
    assert (graph.inputs, graph.outputs) == (["x"], ["head_softmax_float"])
    assert [graph.tensors[n].dtype for n in (*graph.inputs, *graph.outputs)] == [
        "float32",
        "float32",
    ]
    x = nets.samples(model)
    codes = simulate(plain, graph_inputs(plain, x))["head_softmax"]
    np.testing.assert_array_equal(
        simulate(graph, graph_inputs(graph, x))["head_softmax_float"],
        (codes + np.float32(128)) / np.float32(256),
    )


def test_names_that_collide_are_told_apart():
    x = keras.Input((8, 8, 3), name="axes")
    y = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(2, 1, name="axes_1")(x))
    graph = lowered(nets.calibrated(keras.Model(x, y)))
    assert graph.inputs == ["axes"]
    assert graph.tensors[graph.ops[-1].inputs[1]].data.tolist() == [1, 2]
