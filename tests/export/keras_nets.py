"""Small Keras nets to quantize, calibrate and export: by hand, and at random from a grammar of all
supported layers.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import tfqreg as tq
from tfqreg.export.ir import Graph
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.samples import graph_inputs
from tfqreg.layers.quantized import kernel_names

Tensor = Any


def samples(model: keras.Model, count: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Random inputs of both signs, outliers included; one array for each input."""
    rng = np.random.default_rng(seed)
    return [rng.standard_t(4, (count, *x.shape[1:])).astype(np.float32) for x in model.inputs]


def calibrated(model: keras.Model, rules=None, activations: int = 8, seed: int = 0) -> keras.Model:
    """The model quantized, its scales set from random data."""
    quantized = tq.quantize(model, rules, activations)
    x = samples(model, 16, seed)
    with warnings.catch_warnings():
        # Random nets join branches of any size.
        warnings.filterwarnings("ignore", ".* lost: ", UserWarning)
        return tq.calibrate(quantized, x[0] if len(x) == 1 else [(x,)], verbose=0)


def grid(scale: float, low: int = 0, bits: int = 8, **kwargs: Any) -> tq.QuantizedActivation:
    """An activation quantizer on a given grid."""
    layer = tq.QuantizedActivation(bits, **kwargs)
    layer.assign_grid(scale, low)
    return layer


def output_errors(
    model: keras.Model, graph: Graph, x: list[np.ndarray]
) -> list[tuple[np.ndarray, int]]:
    """What the simulator's outputs differ by from those of Keras, in output steps, and how many
    codes they take.
    """
    codes = simulate(graph, graph_inputs(graph, x), "f32", set(graph.outputs))
    expected = model(x[0] if len(x) == 1 else x, training=False)
    errors = []
    for name, y in zip(graph.outputs, keras.tree.flatten(expected), strict=True):
        q = graph.tensors[name].quantization
        assert q is not None
        error = np.abs(codes[name].astype(np.float64) - q.zero_point - np.asarray(y) / q.scale[0])
        errors.append((error, len(np.unique(codes[name]))))
    return errors


def roughen(model: keras.Model, seed: int = 0, extremes: bool = True) -> keras.Model:
    """Gives biases and BatchNorms values as training leaves them: negative, zero and tiny gammas
    among them.
    """
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(recursive=True, include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.moving_mean.shape[0]
            gamma = rng.normal(0.8, 0.5, channels)
            if extremes:
                odd = rng.random(channels) < 0.2
                gamma = np.where(odd, rng.choice([0.0, 1e-20, -1e-8, 1e-3, -2.0], channels), gamma)
            if layer.scale:
                layer.gamma.assign(gamma)
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.5, channels))
            layer.moving_mean.assign(rng.normal(0, 0.3, channels))
            layer.moving_variance.assign(np.exp(rng.normal(0, 1, channels)))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.2, layer.bias.shape))
    return model


def sequential(
    *steps: Any, shape: tuple[int | None, ...] = (8, 8, 3), extremes: bool = True
) -> keras.Model:
    """A float model of some layers, its biases and BatchNorms roughened."""
    keras.utils.set_random_seed(1)
    return roughen(keras.Sequential([keras.Input(shape, name="x"), *steps]), 1, extremes)


def conv(name: str = "conv", **kwargs: Any) -> keras.layers.Layer:
    """A 3x3 convolution of 4 channels."""
    return layers.Conv2D(4, 3, name=name, **kwargs)


def norm(name: str = "norm") -> keras.layers.Layer:
    """A BatchNormalization."""
    return layers.BatchNormalization(name=name)


def random_rules(model: keras.Model, rng: np.random.Generator) -> list[tq.Rule]:
    """A rule of its own for every kernel: 1 to 8 bits, per tensor or per channel; now and then bits
    of its output.
    """
    rules = []
    for layer in model._flatten_layers(recursive=True, include_self=False):
        if kernel_names(layer):
            bits = int(rng.choice([1, 2, 3, 4, 5, 8]))
            weights = tq.Uniform(bits, True if rng.integers(2) else None)
            activations = int(rng.choice([2, 3, 4, 7])) if rng.random() < 0.15 else None
            rules.append(
                tq.Rule(rf"(^|/){layer.name}($|_)", weights=weights, activations=activations)
            )
    return rules


def lenet() -> keras.Model:
    """Caffe's LeNet-5 for 28x28 images."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="fc1"),
            layers.Dense(10, activation="softmax", name="fc2"),
        ],
        name="lenet",
    )


def mobile() -> keras.Model:
    """BatchNorms, depthwise convolutions and residual additions."""

    def norm_relu(x: Tensor, name: str) -> Tensor:
        return layers.ReLU(6, name=f"{name}_relu")(
            layers.BatchNormalization(name=f"{name}_norm")(x)
        )

    def block(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
        x = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"{name}_depthwise")(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_point")(
            norm_relu(x, f"{name}_depthwise")
        )
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    inputs = keras.Input((16, 16, 3), name="image")
    x = norm_relu(layers.Conv2D(8, 3, 2, "same", use_bias=False, name="stem")(inputs), "stem")
    x = layers.Add(name="add_1")([x, block(x, 8, 1, "block_1")])
    x = layers.ReLU(name="relu_2")(block(x, 16, 2, "block_2"))
    x = layers.Add(name="add_3")([x, block(x, 16, 1, "block_3")])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name="mobile")


def dense_blocks() -> keras.Model:
    """Concatenations of concatenations, with BatchNorm and ReLU before the convolutions."""
    inputs = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for i in range(3):
        y = layers.ReLU(name=f"relu_{i}")(layers.BatchNormalization(name=f"norm_{i}")(x))
        x = layers.Concatenate(name=f"join_{i}")(
            [x, layers.Conv2D(4, 3, padding="same", name=f"conv_{i}")(y)]
        )
        x = layers.AveragePooling2D(2, name=f"shrink_{i}")(x) if i == 1 else x
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(
        inputs, layers.Dense(10, activation="softmax", name="head")(x), name="dense_blocks"
    )


def two_ends() -> keras.Model:
    """Two inputs, two outputs, a shared and a nested model."""
    shared = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(name="pool"),
        ],
        name="shared",
    )
    left, right = keras.Input((8, 8, 2), name="left"), keras.Input((8, 8, 2), name="right")
    x = layers.Add(name="add")([shared(left), shared(right)])
    scores = layers.Dense(10, name="head")(layers.Flatten(name="flatten")(x))
    return keras.Model([left, right], [scores, layers.Conv2D(1, 1, name="mask")(x)], name="two")


class Grammar:
    """Builds one random net: a random chain from each input, joined, with one head or two."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def choose(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def net(self) -> keras.Model:
        inputs = [
            keras.Input(self.choose((8, 8, 3), (9, 7, 4), (11, 6, 1)), name=self.name("image"))
        ]
        if self.rng.random() < 0.25:
            inputs.append(keras.Input(inputs[0].shape[1:], name=self.name("image")))
        ends = [self.chain(x, 2) for x in inputs]
        x = self.chain(ends[0] if len(ends) == 1 else self.join(*ends), 5)
        outputs = [self.head(x)]
        if self.rng.random() < 0.25:
            outputs.append(self.choose(self.head, lambda x: self.chain(self.conv(x), 1))(x))
        return keras.Model(
            *(x[0] if len(x) == 1 else x for x in (inputs, outputs)), name=self.name("net")
        )

    def steps(self) -> list[Callable[[Tensor], Tensor]]:
        """What a chain chooses from."""
        return [
            self.conv, self.conv, self.depthwise, self.separable, self.norm, self.relu, self.pool,
            self.pool, self.ignored, self.padding, self.residual, self.dense_block, self.nested,
            self.sum_of_two,
        ]  # fmt: skip

    def chain(self, x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = self.choose(*self.steps())(x)
        return x

    def window(self, x: Tensor) -> dict[str, Any]:
        """Arguments of a convolution that fit the image."""
        high, wide = (min(n, 3) for n in x.shape[1:3])
        size = self.choose(
            (1, 1), (1, wide), (high, 1), (high, wide), (high, wide), (min(2, high), min(2, wide))
        )
        padding = self.choose("same", "valid")
        if padding == "same" and self.rng.random() < 0.2:
            return {"kernel_size": size, "padding": padding, "dilation_rate": 2}
        return {"kernel_size": size, "padding": padding, "strides": self.choose(1, 1, 1, 2, 3)}

    def activation(self) -> str | None:
        return self.choose(None, None, "relu", "relu6")

    def conv(self, x: Tensor) -> Tensor:
        layer = layers.Conv2D(
            self.choose(1, 3, 6, 9),
            use_bias=self.choose(True, False),
            activation=self.activation(),
            name=self.name("conv"),
            **self.window(x),
        )
        return self.after_linear(layer(x))

    def depthwise(self, x: Tensor) -> Tensor:
        layer = layers.DepthwiseConv2D(
            depth_multiplier=self.choose(1, 1, 2),
            activation=self.activation(),
            name=self.name("dw"),
            **self.window(x),
        )
        return self.after_linear(layer(x))

    def separable(self, x: Tensor) -> Tensor:
        layer = layers.SeparableConv2D(
            self.choose(2, 5), activation=self.activation(), name=self.name("sep"), **self.window(x)
        )
        return self.after_linear(layer(x))

    def after_linear(self, x: Tensor) -> Tensor:
        for step in (self.norm, self.relu, self.ignored):
            if self.rng.random() < 0.35:
                x = step(x)
        return x

    def norm(self, x: Tensor) -> Tensor:
        epsilon, center, scale = (
            self.choose(1e-3, 1e-7),
            self.rng.random() < 0.8,
            self.rng.random() < 0.8,
        )
        return layers.BatchNormalization(
            epsilon=epsilon, center=center, scale=scale, name=self.name("norm")
        )(x)

    def relu(self, x: Tensor) -> Tensor:
        return self.choose(
            layers.ReLU(name=self.name("rectify")),
            layers.ReLU(max_value=6, name=self.name("rectify")),
            layers.Activation("relu", name=self.name("act")),
            layers.Activation("relu6", name=self.name("act6")),
            layers.Activation("linear", name=self.name("linear")),
            keras.ops.relu,
            keras.ops.relu6,
        )(x)

    def pool(self, x: Tensor) -> Tensor:
        high, wide = x.shape[1:3]
        layer = self.choose(layers.MaxPooling2D, layers.MaxPooling2D, layers.AveragePooling2D)
        size = self.choose(
            (min(2, high), min(2, wide)), (min(3, high), min(2, wide)), (1, min(2, wide))
        )
        return layer(
            size, self.choose(None, 1, 2, 3), self.choose("same", "valid"), name=self.name("pool")
        )(x)

    def ignored(self, x: Tensor) -> Tensor:
        return self.choose(
            layers.Dropout(0.3, name=self.name("drop")),
            layers.RandomFlip(name=self.name("flip")),
            layers.GaussianNoise(0.1, name=self.name("noise")),
            layers.SpatialDropout2D(0.1, name=self.name("drop2d")),
            layers.Identity(name=self.name("identity")),
        )(x)

    def padding(self, x: Tensor) -> Tensor:
        return layers.ZeroPadding2D(
            self.choose(1, (0, 1), ((1, 0), (0, 2))), name=self.name("pad")
        )(x)

    def same_shape(self, x: Tensor) -> Tensor:
        """A branch that ends in the shape of `x`."""
        y = layers.Conv2D(
            x.shape[-1], 3, padding="same", activation=self.activation(), name=self.name("branch")
        )(x)
        return self.norm(y) if self.rng.random() < 0.5 else y

    def residual(self, x: Tensor) -> Tensor:
        y = self.same_shape(x)
        return self.after_linear(
            x + y if self.rng.random() < 0.5 else layers.Add(name=self.name("add"))([x, y])
        )

    def sum_of_two(self, x: Tensor) -> Tensor:
        return self.after_linear(
            layers.Add(name=self.name("sum"))([self.same_shape(x), self.same_shape(x)])
        )

    def dense_block(self, x: Tensor) -> Tensor:
        y = self.same_shape(x)
        x = layers.Concatenate(name=self.name("concat"))([x, y])
        return (
            layers.Concatenate(name=self.name("concat"))([x, self.same_shape(x)])
            if self.rng.random() < 0.4
            else x
        )

    def nested(self, x: Tensor) -> Tensor:
        """A model in the model, called once or twice."""
        inside = keras.Input(x.shape[1:])
        model = keras.Model(
            inside, self.after_linear(self.same_shape(inside)), name=self.name("nested")
        )
        x = model(x)
        return model(x) if self.rng.random() < 0.5 else x

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape == y.shape:
            return x + y
        pool = layers.GlobalAveragePooling2D
        x, y = (pool(keepdims=True, name=self.name("gap"))(z) for z in (x, y))
        return layers.Concatenate(name=self.name("concat"))([x, y])

    def head(self, x: Tensor) -> Tensor:
        x = self.choose(
            layers.Flatten(name=self.name("flatten")),
            layers.Reshape((-1,), name=self.name("reshape")),
            layers.GlobalAveragePooling2D(name=self.name("gap")),
            lambda x: layers.Flatten()(
                layers.GlobalAveragePooling2D(keepdims=True, name=self.name("gap"))(x)
            ),
        )(x)
        for _ in range(self.rng.integers(2)):
            activation = self.activation()
            x = layers.Dense(self.choose(4, 7), activation=activation, name=self.name("dense"))(x)
            # A BatchNorm of vectors has an integer form only where a Dense layer absorbs it.
            x = self.norm(x) if activation is None and self.rng.random() < 0.5 else x
        x = layers.Dense(5, activation=self.choose(None, "softmax"), name=self.name("head"))(x)
        return self.choose(
            layers.Softmax(), layers.Activation("softmax"), lambda x: x, lambda x: x
        )(x)


def random_net(seed: int, grammar: type[Grammar] = Grammar) -> keras.Model:
    """A random net, quantized and calibrated; weights, rules and layers follow from the seed."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = roughen(grammar(seed).net(), seed)
    return calibrated(model, random_rules(model, rng), int(rng.choice([8, 8, 8, 4, 2])), seed)
