"""What cannot be lowered says which layer it is, and what to do."""

import keras
import keras_nets as nets
import pytest
from keras import layers
from keras_nets import conv, grid, norm, sequential

import tfqreg as tq
from tfqreg.export.lower import lower


def quantized(*steps, shape=(8, 8, 3), rules=None) -> keras.Model:
    return nets.calibrated(sequential(*steps, shape=shape), rules)


def by_hand(*steps, shape=(8, 8, 3)) -> keras.Model:
    return keras.Sequential([keras.Input(shape, name="x"), grid(0.1, -128), *steps])


wrap = tq.Quantized


def of_input(function) -> keras.Model:
    x = keras.Input((4, 4, 3), name="x")
    return keras.Model(x, function(x))


def twice(x):
    y = layers.ReLU(name="r")(grid(0.1)(x))
    return [grid(0.1, name="q")(y)] * 2


SKIP_A = [tq.Rule("^a$", skip=True), tq.Rule("")]
FIRST = "channels_first"
ERRORS = {
    "unsupported layer": (
        lambda: by_hand(layers.LeakyReLU(name="leaky")),
        "^leaky: LeakyReLU has no integer form. Replace it by one of Activation, .* leave it outside",
    ),
    "unsupported function": (
        lambda: of_input(lambda x: grid(0.1)(x) * 2.0),
        "^multiply.*: Multiply has no integer form",
    ),
    "unsupported activation": (
        lambda: quantized(conv(activation="tanh")),
        "^conv_tanh: the activation 'tanh' has no integer form yet. Use relu, relu6 or softmax",
    ),
    "activation in the kernel": (
        lambda: by_hand(wrap(conv(activation="softmax"))),
        "^conv: no kernel has 'softmax' built in. Make it a layer of its own",
    ),
    "unsupported kernel": (
        lambda: by_hand(wrap(layers.Conv2DTranspose(2, 1, name="up"))),
        "^up: a wrapped Conv2DTranspose has no integer form yet. Use one of Conv2D, Dense, DepthwiseConv2D",
    ),
    "separable by hand": (
        lambda: by_hand(wrap(layers.SeparableConv2D(2, 1, name="s"))),
        "^s: a wrapped SeparableConv2D .* splits it into DepthwiseConv2D and Conv2D; wrap those two",
    ),
    "float first": (
        lambda: quantized(conv("a"), conv("b"), rules=SKIP_A),
        "^a: Conv2D holds float weights on the way to integers. Give it a rule without skip",
    ),
    "float inside": (lambda: quantized(conv("b"), conv("a"), conv("c"), rules=SKIP_A), "^a: Conv2D holds float"),
    "float last": (lambda: quantized(conv("b"), conv("a"), rules=SKIP_A), "^a: Conv2D holds float weights"),
    "input not quantized": (
        lambda: of_input(lambda x: grid(0.1)(wrap(conv())(x))),
        "^x: a model input needs one QuantizedActivation right behind it. .* Received: conv$",
    ),
    "input also used in float": (
        lambda: of_input(lambda x: grid(0.1)(layers.Add(name="sum")([x, grid(0.1, name="q")(x)]))),
        "^x: a model input needs one QuantizedActivation right behind it. .* Received: q, sum$",
    ),
    "two grids at an input": (
        lambda: of_input(lambda x: [grid(0.1, name="q")(x), grid(0.2, name="r")(x)]),
        "^x: a model input needs one QuantizedActivation right behind it. .* Received: q, r$",
    ),
    "kernel not quantized": (
        lambda: by_hand(wrap(conv("c")), wrap(conv("d")), grid(0.1)),
        "^c: its output is not quantized, and d needs integers. Put a tfqreg.QuantizedActivation behind it",
    ),
    "kernel not quantized before its norm": (
        lambda: by_hand(wrap(conv("c", activation="relu")), norm("n"), grid(0.1)),
        "^c: its output is not quantized, and n needs integers",
    ),
    "sums not quantized between pool and norm": (
        lambda: by_hand(wrap(conv("c")), layers.MaxPooling2D(2), norm("n"), grid(0.1)),
        "^c: its output is not quantized, and n needs integers",
    ),
    "sums not quantized between pool and relu": (
        lambda: by_hand(wrap(conv("c")), layers.MaxPooling2D(2), layers.ReLU(name="r"), grid(0.1)),
        "^c: its output is not quantized, and r needs integers",
    ),
    "concatenation of mixed grids not quantized": (
        lambda: of_input(
            lambda x: grid(0.1)(layers.ReLU(name="r")(layers.Concatenate(name="c")([y := grid(0.1)(x), grid(0.2)(y)])))
        ),
        "^c: its output is not quantized, and r needs integers",
    ),
    "output not quantized": (
        lambda: by_hand(wrap(conv("c"))),
        "^c: its output is not quantized, and the model's output needs integers",
    ),
    "uncalibrated": (
        lambda: tq.quantize(sequential(conv())),
        r"^x_quantizer: the scale is not set. Train the model, or call tfqreg.calibrate\(model, data\)",
    ),
    "open dimensions": (
        lambda: by_hand(wrap(conv()), grid(0.1), shape=(None, 8, 3)),
        r"^x: only the batch dimension may be open. .* Received: \(None, None, 8, 3\)",
    ),
    "channels first conv": (
        lambda: by_hand(wrap(conv(data_format=FIRST)), grid(0.1)),
        "^conv: TFLite is channels last. Received: data_format='channels_first'",
    ),
    "channels first pool": (lambda: by_hand(layers.MaxPooling2D(data_format=FIRST, name="p")), "^p: TFLite is chann"),
    "channels first mean": (
        lambda: by_hand(layers.GlobalAveragePooling2D(data_format=FIRST, name="p"), grid(0.1)),
        "^p: TFLite is channels last",
    ),
    "channels first padding": (
        lambda: by_hand(layers.ZeroPadding2D(data_format=FIRST, name="p")),
        "^p: TFLite is channels last",
    ),
    "groups": (
        lambda: quantized(layers.Conv2D(6, 1, groups=3, name="g")),
        "^g: grouped convolutions have no integer form yet. Received: groups=3",
    ),
    "dense of rank 3": (
        lambda: quantized(layers.Dense(2, name="d"), shape=(4, 5)),
        r"^d: Dense takes a \(batch, features\) tensor here. Flatten first, .* Received: \(None, 4, 5\)",
    ),
    "norm of vectors": (
        lambda: quantized(layers.GlobalAveragePooling2D(), norm("n")),
        r"^n: a BatchNormalization that follows no convolution or Dense needs an image. Received: \(None, 3\)",
    ),
    "norm of rows": (
        lambda: quantized(layers.BatchNormalization(axis=1, name="n")),
        "^n: BatchNormalization must be over the last axis. Received: axis=1",
    ),
    "softmax of rows": (
        lambda: quantized(layers.Softmax(axis=1, name="s")),
        "^s: Softmax must be over the last axis. Received: axis=1",
    ),
    "sum of three": (
        lambda: of_input(lambda x: layers.Add(name="sum")([grid(0.1)(x)] * 3)),
        "^sum: Add takes two tensors of one shape. Chain several additions",
    ),
    "sum of two shapes": (
        lambda: nets.calibrated(of_input(lambda x: layers.Add(name="sum")([x, layers.Conv2D(1, 1)(x)]))),
        r"^sum: Add takes two tensors of one shape. .* Received: \[\(None, 4, 4, 3\), \(None, 4, 4, 1\)\]",
    ),
    "sloped relu": (
        lambda: by_hand(layers.ReLU(negative_slope=0.1, name="r"), grid(0.1)),
        "^r: only ReLU and ReLU6 have an integer form yet. .* negative_slope=0.1",
    ),
    "relu up to 4": (lambda: by_hand(layers.ReLU(4, name="r"), grid(0.1)), "^r: only ReLU and ReLU6 .* max_value=4"),
    "one output twice": (lambda: of_input(twice), "^r: one tensor is two ends of the model"),
    "input as output": (lambda: by_hand(layers.Dropout(0.5)), "^x: one tensor is two ends of the model"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_layer_and_the_remedy(name):
    make, message = ERRORS[name]
    model = make()
    with pytest.raises(ValueError, match=message):
        lower(model)


def test_subclassed_models_are_refused():
    class Net(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match=r"net: Net is a subclassed model .* self\.conv = tfqreg\.Quantized"):
        lower(Net(name="net"))


def test_sequential_models_need_a_shape():
    with pytest.raises(ValueError, match="open: the input shape is unknown"):
        lower(keras.Sequential([layers.Dense(2)], name="open"))
