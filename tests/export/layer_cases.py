"""One small net for every layer with a kernel beyond the first set, and for every one that moves or
pools values.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.export import keras_nets as nets
from tests.export.keras_nets import Tensor

IMAGE, ROW = (8, 6, 4), (12, 4)
Case = tuple[tuple[int, ...], Callable[[Tensor], Any], list[str]]


def chain(*steps: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The steps one after the other."""

    def net(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return net


def norm() -> keras.layers.Layer:
    return layers.BatchNormalization()


def up(*args: Any, **kwargs: Any) -> keras.layers.Layer:
    """A transposed convolution of 5 channels."""
    return layers.Conv2DTranspose(5, *args, **kwargs)


def einsum(equation: str, shape: Any, axes: str) -> keras.layers.Layer:
    return layers.EinsumDense(equation, shape, bias_axes=axes)


def channel_shuffle(x: Tensor, groups: int = 2) -> Tensor:
    high, wide, depth = x.shape[1:]
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((high, wide, groups, depth // groups))(x))
    return layers.Reshape((high, wide, depth))(x)


def pixel_shuffle(x: Tensor) -> Tensor:
    high, wide, depth = x.shape[1:]
    x = ops.transpose(ops.reshape(x, (-1, high, wide, 2, 2, depth // 4)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 2 * high, 2 * wide, depth // 4))


def half_of_the_channels(x: Tensor) -> Tensor:
    first, second = ops.split(x, 2, axis=-1)
    return channel_shuffle(
        layers.Concatenate()([layers.Conv2D(2, 1, activation="relu")(first), second])
    )


CONV = ["CONV_2D"]
DEPTHWISE = ["DEPTHWISE_CONV_2D"]
ROW_CONV = ["RESHAPE", "CONV_2D", "RESHAPE"]
ROW_DEPTHWISE = ["RESHAPE", "DEPTHWISE_CONV_2D", "RESHAPE"]
SLICE = ["STRIDED_SLICE"]
MOVED = ["RESHAPE", "TRANSPOSE", "RESHAPE"]
SHIFT_ROW = ["RESHAPE", "DEPTHWISE_CONV_2D", "RESHAPE"]
TABLE = ["CAST", "ADD", "GATHER"]
MAX_ROW = ["RESHAPE", "MAX_POOL_2D", "RESHAPE"]

CASES: dict[str, Case] = {
    "groups": (IMAGE, layers.Conv2D(8, 3, 2, "same", groups=4), CONV),
    "groups, norm, relu": (
        IMAGE,
        chain(layers.Conv2D(6, 1, groups=2), norm(), layers.ReLU()),
        CONV,
    ),
    "dilated groups": (IMAGE, layers.Conv2D(6, 3, dilation_rate=2, groups=2), CONV),
    "dilated depthwise": (
        IMAGE,
        layers.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
        DEPTHWISE,
    ),
    "strided and dilated depthwise": (
        (12, 11, 4),
        layers.DepthwiseConv2D(3, 2, "same", dilation_rate=2),
        DEPTHWISE,
    ),
    "two strides": ((7, 9, 4), layers.DepthwiseConv2D(3, (1, 2), "same"), DEPTHWISE),
    "conv of rows": (ROW, layers.Conv1D(6, 3, 2, "same", activation="relu", groups=2), ROW_CONV),
    "conv of rows, strides past the window": (ROW, layers.Conv1D(6, 2, 3, "same"), ROW_CONV),
    "causal conv": (
        ROW,
        layers.Conv1D(6, 3, padding="causal", dilation_rate=2),
        ["RESHAPE", "PAD", "CONV_2D", "RESHAPE"],
    ),
    "net of rows": (
        ROW,
        chain(
            layers.Conv1D(6, 3),
            norm(),
            layers.ReLU(),
            layers.MaxPooling1D(2),
            layers.Conv1D(5, 2, activation="relu6"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ),
        ["RESHAPE", "CONV_2D", "MAX_POOL_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"],
    ),
    "residual net of rows": (
        ROW,
        lambda x: layers.MaxPooling1D(2)(layers.Add()([layers.Conv1D(4, 1)(x), x])),
        ["RESHAPE", "CONV_2D", "RESHAPE", "ADD", "RESHAPE", "MAX_POOL_2D", "RESHAPE"],
    ),
    "depthwise rows": (
        ROW,
        layers.DepthwiseConv1D(3, 2, "same", depth_multiplier=2),
        ROW_DEPTHWISE,
    ),
    "separable rows": (
        ROW,
        layers.SeparableConv1D(5, 3, depth_multiplier=2, activation="relu"),
        ["RESHAPE", "DEPTHWISE_CONV_2D", "CONV_2D", "RESHAPE"],
    ),
    "dense of rows": (ROW, chain(layers.Dense(5), norm(), layers.ReLU()), ROW_CONV),
    "dense of images": (IMAGE, layers.Dense(5), CONV),
    "dense of many axes": (
        IMAGE,
        chain(layers.Reshape((2, 4, 6, 4)), layers.Dense(5)),
        ["CONV_2D", "RESHAPE"],
    ),
    "einsum as dense": (ROW, einsum("abc,cd->abd", (12, 5), "d"), ROW_CONV),
    "einsum of heads": (ROW, einsum("abc,cde->abde", (12, 2, 3), "e"), ROW_CONV),
    "einsum that joins heads": (IMAGE, einsum("abcd,cde->abe", (8, 5), "e"), ROW_CONV),
    "einsum of vectors": (
        IMAGE,
        chain(layers.Flatten(), einsum("ab,bc->ac", 5, "c")),
        ["RESHAPE", "FULLY_CONNECTED"],
    ),
    "einsum with an ellipsis": (ROW, einsum("...x,xy->...y", 5, "y"), ROW_CONV),
    "norm of rows": (ROW, norm(), ROW_DEPTHWISE),
    "norm of vectors": (
        IMAGE,
        chain(layers.GlobalAveragePooling2D(), norm()),
        ["MEAN", "RESHAPE", "DEPTHWISE_CONV_2D", "RESHAPE"],
    ),
    "max pool of rows": (ROW, layers.MaxPooling1D(3, 2, "same"), MAX_ROW),
    "average pool of rows": (
        ROW,
        layers.AveragePooling1D(3, 2, "same"),
        ["RESHAPE", "AVERAGE_POOL_2D", "RESHAPE"],
    ),
    "mean of rows, axes kept": (
        ROW,
        layers.GlobalAveragePooling1D(keepdims=True),
        ["RESHAPE", "MEAN", "RESHAPE"],
    ),
    "maximum of rows": (ROW, layers.GlobalMaxPooling1D(), MAX_ROW),
    "maximum after a conv": (
        IMAGE,
        chain(
            layers.Conv2D(5, 3, activation="relu"),
            layers.GlobalMaxPooling2D(keepdims=True),
            layers.Conv2D(2, 1),
        ),
        ["CONV_2D", "MAX_POOL_2D", "CONV_2D"],
    ),
    "upsampling": (IMAGE, layers.UpSampling2D((2, 3)), ["RESIZE_NEAREST_NEIGHBOR"]),
    "bilinear upsampling": (
        IMAGE,
        layers.UpSampling2D((2, 5), interpolation="bilinear"),
        ["RESIZE_BILINEAR"],
    ),
    "upsampling of rows": (
        ROW,
        layers.UpSampling1D(3),
        ["RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "RESHAPE"],
    ),
    "resizing": (IMAGE, layers.Resizing(5, 9), ["RESIZE_BILINEAR"]),
    "resizing to the nearest": (
        IMAGE,
        layers.Resizing(5, 9, "nearest"),
        ["RESIZE_NEAREST_NEIGHBOR"],
    ),
    "permute": (IMAGE, layers.Permute((3, 1, 2)), ["TRANSPOSE"]),
    "channel shuffle": (IMAGE, channel_shuffle, MOVED),
    "channel split": (
        IMAGE,
        half_of_the_channels,
        [*SLICE, *SLICE, "CONV_2D", "CONCATENATION", *MOVED],
    ),
    "pixel shuffle": (IMAGE, pixel_shuffle, MOVED),
    "reshapes in a row": (
        IMAGE,
        chain(layers.Reshape((4, 12, 4)), layers.Flatten(), layers.Dense(3)),
        ["RESHAPE", "FULLY_CONNECTED"],
    ),
    "cropping": (IMAGE, layers.Cropping2D(((1, 0), (2, 1))), SLICE),
    "cropping of rows": (
        ROW,
        chain(layers.Cropping1D((1, 2)), layers.ZeroPadding1D((0, 2))),
        [*SLICE, "PAD"],
    ),
    "concatenation of rows": (
        ROW,
        lambda x: layers.Concatenate(axis=1)([x, layers.Conv1D(4, 1)(x)]),
        [*ROW_CONV, "CONCATENATION"],
    ),
    "slices": (IMAGE, lambda x: x[:, 1:6:2, ..., -3:], SLICE),
    "slice of the whole": (IMAGE, lambda x: x[:, None, 0:8], ["RESHAPE"]),
    "elements": (IMAGE, lambda x: x[:, 3, :, -1], [*SLICE, "RESHAPE"]),
    "split": (IMAGE, lambda x: ops.split(x, [1, 5], axis=1), SLICE * 3),
    "abs": (IMAGE, lambda x: abs(x), ["PRELU"]),
    "square": (IMAGE, ops.square, ["MUL"]),
    "second power": (IMAGE, lambda x: x**2, ["MUL"]),
    "third power": (IMAGE, lambda x: x**3, TABLE),
    "power of two": (IMAGE, lambda x: 2.0**x, TABLE),
    "exp": (ROW, lambda x: ops.exp(ops.tanh(x)), ["TANH", *TABLE]),
    "sqrt": (ROW, lambda x: ops.sqrt(ops.relu(x)), ["RELU", *TABLE]),
    "rsqrt": (ROW, lambda x: ops.rsqrt(1 + ops.sigmoid(x)), ["LOGISTIC", *SHIFT_ROW, *TABLE]),
    "log": (ROW, lambda x: ops.log(1 + ops.sigmoid(x)), ["LOGISTIC", *SHIFT_ROW, *TABLE]),
    "one over": (ROW, lambda x: 3 / (1 + ops.sigmoid(x)), ["LOGISTIC", *SHIFT_ROW, *TABLE]),
    "quotient": (
        ROW,
        lambda x: x / (1 + ops.sigmoid(x)),
        ["LOGISTIC", *SHIFT_ROW, *TABLE, "MUL"],
    ),
    "divided by a number": (IMAGE, lambda x: x / 3, DEPTHWISE),
    "divided by channel": (IMAGE, lambda x: x / np.float32([1, 2, 3, 4]), DEPTHWISE),
    "divided by place": (
        ROW,
        lambda x: x / np.arange(1, 49, dtype=np.float32).reshape(ROW),
        ["MUL"],
    ),
    "clip": (IMAGE, lambda x: ops.clip(x, -0.7, 1.2), ["QUANTIZE", "MAXIMUM"]),
    "clip to six": (IMAGE, lambda x: ops.clip(layers.Conv2D(5, 3)(x), 0, 6), CONV),
    "clip after a norm, pooled": (
        IMAGE,
        chain(
            layers.Conv2D(5, 3),
            norm(),
            lambda x: ops.clip(x, -0.5, 0.5),
            layers.MaxPooling2D(),
            layers.Conv2D(2, 1),
        ),
        ["CONV_2D", "MAXIMUM", "MAX_POOL_2D", "CONV_2D"],
    ),
    "lambda": (IMAGE, layers.Lambda(lambda x: abs(x) / 2), ["PRELU", *DEPTHWISE]),
    "stop_gradient, cast": (
        ROW,
        lambda x: ops.stop_gradient(ops.cast(layers.Conv1D(3, 1)(x), "float32")),
        ROW_CONV,
    ),
    "stack": (
        ROW,
        lambda x: ops.stack([x, layers.Conv1D(4, 1)(x)], 2),
        [*ROW_CONV[:2], "RESHAPE", "RESHAPE", "CONCATENATION"],
    ),
    "tile": (ROW, lambda x: ops.tile(x, (1, 9, 2)), ["CONCATENATION"] * 3),
    "flip": (IMAGE, lambda x: ops.flip(x, (1, 3)), ["REVERSE_V2"] * 2),
    "mean of one axis": (IMAGE, lambda x: ops.mean(x, 1), ["MEAN"]),
    "mean of channels": (IMAGE, lambda x: ops.mean(x, -1, keepdims=True), ["MEAN"]),
    "sum of rows": (IMAGE, lambda x: ops.sum(x, 2), ["MEAN", *ROW_DEPTHWISE]),
    "sum of channels": (IMAGE, lambda x: ops.sum(x, -1), ["MEAN", "DEPTHWISE_CONV_2D", "RESHAPE"]),
    "sum before dense": (
        IMAGE,
        lambda x: layers.Dense(3)(ops.sum(x, (1, 2))),
        ["MEAN", "FULLY_CONNECTED"],
    ),
    "maximum of channels": (IMAGE, lambda x: ops.max(x, -1), ["REDUCE_MAX"]),
    "amax": (IMAGE, lambda x: ops.amax(x, (1, 3)), ["REDUCE_MAX"]),
    "minimum": (IMAGE, lambda x: ops.min(x, (1, 2), keepdims=True), ["REDUCE_MIN"]),
    "softmax of rows": (
        IMAGE,
        lambda x: ops.softmax(x, 1),
        ["TRANSPOSE", "SOFTMAX", "TRANSPOSE"],
    ),
    "unit norm": (ROW, layers.UnitNormalization(), ["RESHAPE", "L2_NORMALIZATION", "RESHAPE"]),
    "ops.normalize": (IMAGE, lambda x: ops.normalize(x, -1), ["L2_NORMALIZATION"]),
    "unit norm of rows": (
        IMAGE,
        layers.UnitNormalization(2),
        ["TRANSPOSE", "L2_NORMALIZATION", "TRANSPOSE"],
    ),
    "center crop": (IMAGE, layers.CenterCrop(5, 4), SLICE),
    "augmentation": (
        IMAGE,
        chain(
            layers.RandomFlip(),
            layers.RandomErasing(),
            layers.RandomHue(0.1),
            layers.Solarization(),
            layers.RandomCrop(8, 6),
            layers.Conv2D(2, 3),
        ),
        CONV,
    ),
    "ops.concatenate": (
        IMAGE,
        lambda x: ops.concatenate([x, layers.Conv2D(4, 1)(x)], axis=2),
        ["CONV_2D", "CONCATENATION"],
    ),
    "ops.depth_to_space": (IMAGE, lambda x: ops.depth_to_space(x, 2), ["DEPTH_TO_SPACE"]),
    "ops.expand_dims": (ROW, lambda x: ops.expand_dims(x, 1), ["RESHAPE"]),
    "ops.image.resize": (IMAGE, lambda x: ops.image.resize(x, (11, 7)), ["RESIZE_BILINEAR"]),
    "ops.max": (ROW, lambda x: ops.max(x, axis=1, keepdims=True), MAX_ROW),
    "ops.max_pool": (IMAGE, lambda x: ops.max_pool(x, 2, 1, "same"), ["MAX_POOL_2D"]),
    "ops.average_pool": (
        IMAGE,
        lambda x: ops.average_pool(x, (2, 3), 2, "same"),
        ["AVERAGE_POOL_2D"],
    ),
    "ops.mean": (IMAGE, lambda x: ops.mean(x, axis=[2, 1], keepdims=True), ["MEAN"]),
    "ops.moveaxis": (IMAGE, lambda x: ops.moveaxis(x, 3, 1), ["TRANSPOSE"]),
    "ops.pad": (IMAGE, lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0), (0, 1))), ["PAD"]),
    "ops.space_to_depth": (IMAGE, lambda x: ops.space_to_depth(x, 2), ["SPACE_TO_DEPTH"]),
    "ops.squeeze": (IMAGE, lambda x: ops.squeeze(x[:, :1], 1), [*SLICE, "RESHAPE"]),
    "ops.swapaxes": (ROW, lambda x: ops.swapaxes(x, 1, 2), ["TRANSPOSE"]),
    "ops.transpose": (IMAGE, lambda x: ops.transpose(x, (0, 3, 2, 1)), ["TRANSPOSE"]),
}

# Apart from the others, because they close the batch.
TRANSPOSED: dict[str, Case] = {
    "same": (IMAGE, up(3, 2, "same"), ["TRANSPOSE_CONV"]),
    "valid": (IMAGE, up(3, 2, "valid"), ["TRANSPOSE_CONV"]),
    "even window": (IMAGE, up(4, 2, "same"), ["TRANSPOSE_CONV"]),
    "window in the stride": (IMAGE, up((2, 1), 3, "same"), ["TRANSPOSE_CONV"]),
    "window in the stride, valid": (IMAGE, up((2, 1), (3, 2), "valid"), ["TRANSPOSE_CONV"]),
    "two strides": (IMAGE, up(3, (1, 2), "same"), ["TRANSPOSE_CONV"]),
    "padded output": (IMAGE, up(3, 2, "same", output_padding=0), ["TRANSPOSE_CONV"]),
    "norm and relu": (
        IMAGE,
        chain(up(3, 2, "same", use_bias=False), norm(), layers.ReLU(), layers.Conv2D(3, 3)),
        ["TRANSPOSE_CONV", "CONV_2D"],
    ),
    "pooled": (
        IMAGE,
        chain(up(3, 2, activation="relu6"), layers.MaxPooling2D()),
        ["TRANSPOSE_CONV", "MAX_POOL_2D"],
    ),
    "rows": (
        ROW,
        chain(layers.Conv1DTranspose(5, 2, 3, "valid"), norm(), layers.ReLU()),
        ["RESHAPE", "TRANSPOSE_CONV", "RESHAPE"],
    ),
}  # fmt: skip


def model_of(case: Case) -> keras.Model:
    """The float model of one case."""
    keras.utils.set_random_seed(1)
    x = keras.Input(case[0], name="x")
    return nets.roughen(keras.Model(x, case[1](x)), 1, False)


def joined(cases: dict[str, Case]) -> keras.Model:
    """All cases as one model with an input for each shape."""
    keras.utils.set_random_seed(2)
    shapes = list(dict.fromkeys(case[0] for case in cases.values()))
    inputs = {shape: keras.Input(shape, name=f"x{i}") for i, shape in enumerate(shapes)}
    outputs = [case[1](inputs[case[0]]) for case in cases.values()]
    return nets.roughen(keras.Model(list(inputs.values()), keras.tree.flatten(outputs)), 2, False)
