"""What cannot be lowered says which layer it is, and what to do."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.export import keras_nets as nets
from tests.export.keras_nets import conv, grid, norm, sequential
from tfqreg.export.lowering.lower import lower


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
        lambda: by_hand(layers.AutoContrast(name="contrast")),
        "^contrast: AutoContrast has no integer form\\. .* leave it outside",
    ),
    "unsupported function": (
        lambda: of_input(lambda x: keras.ops.sin(grid(0.1)(x))),
        "^sin.*: Sin has no integer form",
    ),
    "embedding": (
        lambda: keras.Sequential(
            [keras.Input((4,), dtype="int32"), layers.Embedding(9, 3, name="words")]
        ),
        "^words: Embedding has no integer form",
    ),
    "product not quantized": (
        lambda: of_input(lambda x: grid(0.1)(x) * 2.0),
        "^multiply.*: its output is not quantized, and the model's output needs integers",
    ),
    "unsupported activation": (
        lambda: quantized(conv(activation="elu")),
        r"^conv_elu: no int8 operator that all runtimes have computes 'elu' \(the reference "
        r"kernels have no ELU\). "
        "Use one of hard_sigmoid, hard_silu, leaky_relu",
    ),
    "swish by hand": (
        lambda: by_hand(layers.Activation("silu", name="s")),
        r"^s: no int8 operator .* computes 'silu'. tfqreg.quantize\(model\) makes it x \* "
        r"sigmoid\(x\)",
    ),
    "constants that vary by sample": (
        lambda: of_input(lambda x: grid(0.1)(x) * np.ones((2, 4, 4, 3), "float32")),
        r"^multiply.*: a constant must be finite and the same for every sample. Received: shape "
        r"\(2, 4, 4, 3\)",
    ),
    "constants of infinity": (
        lambda: by_hand(layers.Rescaling(np.inf, name="s"), grid(0.1)),
        "^s: its constants must be finite, and one number or one per channel",
    ),
    "slopes of NaN": (
        lambda: by_hand(
            layers.PReLU(alpha_initializer=keras.initializers.Constant(np.nan), name="p"), grid(0.1)
        ),
        "^p: NaN or infinity in the slopes",
    ),
    "activation in the kernel": (
        lambda: by_hand(wrap(conv(activation="softmax"))),
        "^conv: no kernel has 'softmax' built in. Make it a layer of its own",
    ),
    "unsupported kernel": (
        lambda: by_hand(wrap(layers.Conv3D(2, 1, name="cube")), shape=(4, 4, 4, 3)),
        "^cube: a wrapped Conv3D has no integer form yet. Use one of Conv1D, Conv1DTranspose, "
        "Conv2D, ",
    ),
    "separable by hand": (
        lambda: by_hand(wrap(layers.SeparableConv2D(2, 1, name="s"))),
        "^s: a wrapped SeparableConv2D .* splits it into DepthwiseConv2D and Conv2D; wrap those "
        "two",
    ),
    "float first": (
        lambda: quantized(conv("a"), conv("b"), rules=SKIP_A),
        "^a: Conv2D holds float weights on the way to integers. Give it a rule without skip",
    ),
    "float inside": (
        lambda: quantized(conv("b"), conv("a"), conv("c"), rules=SKIP_A),
        "^a: Conv2D holds float",
    ),
    "float last": (
        lambda: quantized(conv("b"), conv("a"), rules=SKIP_A),
        "^a: Conv2D holds float weights",
    ),
    "input not quantized": (
        lambda: of_input(lambda x: grid(0.1)(wrap(conv())(x))),
        "^x: a model input needs one QuantizedActivation right after it. .* Received: conv$",
    ),
    "input also used in float": (
        lambda: of_input(lambda x: grid(0.1)(layers.Add(name="sum")([x, grid(0.1, name="q")(x)]))),
        "^x: a model input needs one QuantizedActivation right after it. .* Received: q, sum$",
    ),
    "two grids at an input": (
        lambda: of_input(lambda x: [grid(0.1, name="q")(x), grid(0.2, name="r")(x)]),
        "^x: a model input needs one QuantizedActivation right after it. .* Received: q, r$",
    ),
    "kernel not quantized": (
        lambda: by_hand(wrap(conv("c")), wrap(conv("d")), grid(0.1)),
        "^c: its output is not quantized, and d needs integers. Put a tfqreg.QuantizedActivation "
        "after it",
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
            lambda x: grid(0.1)(
                layers.ReLU(name="r")(
                    layers.Concatenate(name="c")([y := grid(0.1)(x), grid(0.2)(y)])
                )
            )
        ),
        "^c: its output is not quantized, and r needs integers",
    ),
    "output not quantized": (
        lambda: by_hand(wrap(conv("c"))),
        "^c: its output is not quantized, and the model's output needs integers",
    ),
    "uncalibrated": (
        lambda: tq.quantize(sequential(conv())),
        r"^x_quantizer: the scale is not set. Train the model, or call tfqreg.calibrate\(model, "
        r"data\)",
    ),
    "open dimensions": (
        lambda: by_hand(wrap(conv()), grid(0.1), shape=(None, 8, 3)),
        r"^x: only the batch dimension may be open. .* Received: \(None, None, 8, 3\)",
    ),
    "channels first conv": (
        lambda: by_hand(wrap(conv(data_format=FIRST)), grid(0.1)),
        "^conv: TFLite is channels last. Received: data_format='channels_first'",
    ),
    "channels first pool": (
        lambda: by_hand(layers.MaxPooling2D(data_format=FIRST, name="p")),
        "^p: TFLite is chann",
    ),
    "channels first mean": (
        lambda: by_hand(layers.GlobalAveragePooling2D(data_format=FIRST, name="p"), grid(0.1)),
        "^p: TFLite is channels last",
    ),
    "channels first padding": (
        lambda: by_hand(layers.ZeroPadding2D(data_format=FIRST, name="p")),
        "^p: TFLite is channels last",
    ),
    "norm of rows": (
        lambda: quantized(layers.BatchNormalization(axis=1, name="n")),
        "^n: BatchNormalization must be over the last axis. Received: axis=1",
    ),
    "softmax of rows": (
        lambda: by_hand(layers.Softmax(axis=1, name="s")),
        "^s: Softmax must be over the last axis. Received: axis=1",
    ),
    "sum of three": (
        lambda: of_input(lambda x: layers.Add(name="sum")([grid(0.1)(x)] * 3)),
        "^sum: an element-wise layer takes two tensors here. Chain several of them",
    ),
    "sum of two ranks": (
        lambda: of_input(
            lambda x: (y := grid(0.1)(x)) + layers.Reshape((1, 3))(layers.MaxPooling2D(4)(y))
        ),
        r"^add.*: two shapes broadcast if they have the same number of axes, 4 at most. "
        r"Reshape one. Received: "
        r"\[\(None, 4, 4, 3\), \(None, 1, 3\)\]",
    ),
    "relu after a threshold": (
        lambda: by_hand(layers.ReLU(threshold=0.5, name="r"), grid(0.1)),
        "^r: a ReLU has an integer form with threshold=0, .* Received: max_value=None, .*, "
        "threshold=0.5",
    ),
    "sloped relu with a maximum": (
        lambda: by_hand(layers.ReLU(4, negative_slope=0.1, name="r"), grid(0.1)),
        "^r: a ReLU has an integer form .* Received: max_value=4, negative_slope=0.1, "
        "threshold=0.0",
    ),
    "one output twice": (lambda: of_input(twice), "^r: one tensor is two ends of the model"),
    "input as output": (
        lambda: by_hand(layers.Dropout(0.5)),
        "^x: one tensor is two ends of the model",
    ),
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

    with pytest.raises(
        TypeError, match=r"net: Net is a subclassed model .* self\.conv = tfqreg\.Quantized"
    ):
        lower(Net(name="net"))


def test_sequential_models_need_a_shape():
    with pytest.raises(ValueError, match="open: the input shape is unknown"):
        lower(keras.Sequential([layers.Dense(2)], name="open"))
