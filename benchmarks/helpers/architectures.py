"""The networks of the benchmarks, built from Keras layers.

`backend` is keras, or tf_keras for what runs on Keras 2 alone.
"""

from types import ModuleType
from typing import Any

import keras
from keras import layers

Tensor = Any


def lenet5(classes: int = 10, backend: ModuleType = keras) -> Any:
    """Returns Caffe's LeNet-5 of 430,500 weights, raw logits."""
    layers = backend.layers
    return backend.Sequential(
        [
            layers.Input((28, 28, 1), name="image"),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="fc1"),
            layers.Dense(classes, name="fc2"),
        ],
        name="lenet5",
    )


def mobile_blocks(
    classes: int = 10,
    width: int = 32,
    backend: ModuleType = keras,
    shape: tuple[int, int, int] = (28, 28, 1),
) -> Any:
    """Returns a small BatchNorm and depthwise network with one residual addition; raw logits."""
    layers = backend.layers

    def norm_relu(x: Any, name: str) -> Any:
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))

    def block(x: Any, filters: int, name: str, strides: int = 1) -> Any:
        depthwise = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise"
        )
        x = norm_relu(depthwise(x), f"{name}_depthwise")
        return norm_relu(
            layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x),
            f"{name}_pointwise",
        )

    inputs = layers.Input(shape, name="image")
    x = norm_relu(
        layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs),
        "stem",
    )
    x = block(x, 2 * width, "block_1")
    x = layers.Add(name="add")([x, block(x, 2 * width, "block_2")])
    x = block(x, 4 * width, "block_3", strides=2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return backend.Model(inputs, layers.Dense(classes, name="head")(x), name="mobile_blocks")


def norm_relu(x: Tensor, name: str) -> Tensor:
    """Returns ReLU(BatchNorm(x))."""
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))


def conv_norm(x: Tensor, filters: int, size: int, strides: int, name: str) -> Tensor:
    """Returns BatchNorm(Conv2D(x)), padded to the same size, without a bias."""
    x = layers.Conv2D(filters, size, strides, "same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


def residual_block(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
    """Returns ReLU of two convolutions 3x3 plus a skip, a convolution if `strides` > 1."""
    y = layers.ReLU(name=f"{name}_a_relu")(conv_norm(x, filters, 3, strides, f"{name}_a"))
    y = conv_norm(y, filters, 3, 1, f"{name}_b")
    if strides > 1:
        x = conv_norm(x, filters, 1, strides, f"{name}_skip")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def residual_head(x: Tensor, width: int, stages: int, classes: int) -> Tensor:
    """Returns raw logits of stages of two residual blocks, each stage twice as wide as the last."""
    for stage in range(stages):
        for index in range(2):
            x = residual_block(
                x,
                width << stage,
                2 if stage and not index else 1,
                f"stage_{stage + 1}_block_{index + 1}",
            )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(classes, name="head")(x)


def resnet18(
    shape: tuple[int, int, int] = (224, 224, 3), classes: int = 1000, width: int = 64
) -> keras.Model:
    """Returns ResNet-18 (He et al. 2016, table 1), raw logits; `width`: first stage's channels."""
    inputs = keras.Input(shape, name="image")
    x = layers.ReLU(name="stem_relu")(conv_norm(inputs, width, 7, 2, "stem"))
    x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    return keras.Model(inputs, residual_head(x, width, 4, classes), name="resnet18")


def shufflenet(
    shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    groups: int = 3,
    width: int = 240,
) -> keras.Model:
    """Returns ShuffleNet V1 (Zhang et al. 2018, table 1), raw logits; `width`: of stage 2."""

    def shuffled(x: Tensor, name: str) -> Tensor:
        high, wide, channels = x.shape[1:]
        x = layers.Reshape((high, wide, groups, channels // groups), name=f"{name}_split")(x)
        x = layers.Permute((1, 2, 4, 3), name=f"{name}_shuffle")(x)
        return layers.Reshape((high, wide, channels), name=f"{name}_join")(x)

    def unit(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
        # The first grouped convolution would see too few channels: it is a plain one there.
        split = groups if x.shape[-1] % groups == 0 and x.shape[-1] >= width else 1
        y = layers.Conv2D(filters // 4, 1, groups=split, use_bias=False, name=f"{name}_squeeze")(x)
        y = shuffled(norm_relu(y, f"{name}_squeeze"), name)
        y = layers.DepthwiseConv2D(3, strides, "same", use_bias=False, name=f"{name}_depthwise")(y)
        y = layers.BatchNormalization(name=f"{name}_depthwise_norm")(y)
        added = filters - x.shape[-1] if strides > 1 else filters
        y = layers.Conv2D(added, 1, groups=groups, use_bias=False, name=f"{name}_expand")(y)
        y = layers.BatchNormalization(name=f"{name}_expand_norm")(y)
        if strides == 1:
            y = layers.Add(name=f"{name}_add")([x, y])
        else:
            x = layers.AveragePooling2D(3, 2, "same", name=f"{name}_skip")(x)
            y = layers.Concatenate(name=f"{name}_concat")([x, y])
        return layers.ReLU(name=f"{name}_relu")(y)

    inputs = keras.Input(shape, name="image")
    x = norm_relu(layers.Conv2D(24, 3, 2, "same", use_bias=False, name="stem")(inputs), "stem")
    x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    for stage, units in enumerate((4, 8, 4)):
        for index in range(units):
            x = unit(x, width << stage, 1 if index else 2, f"stage_{stage + 2}_unit_{index + 1}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="head")(x), name="shufflenet")


def super_resolution(shape: tuple[int, int, int] = (64, 64, 3), width: int = 32) -> keras.Model:
    """Returns a x2 super-resolution network that ends in depth_to_space (Shi et al. 2016)."""
    inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(width, 5, padding="same", activation="relu", name="features")(inputs)
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="mapping")(x)
    x = layers.Conv2D(4 * shape[-1], 3, padding="same", name="subpixels")(x)
    return keras.Model(inputs, keras.ops.depth_to_space(x, 2), name="super_resolution")


def super_resolution_transposed(
    shape: tuple[int, int, int] = (64, 64, 3), width: int = 32
) -> keras.Model:
    """Returns a x2 super-resolution network: a transposed convolution on the bilinear image."""
    inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(width, 5, padding="same", activation="relu", name="features")(inputs)
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="mapping")(x)
    detail = layers.Conv2DTranspose(shape[-1], 4, 2, "same", name="detail")(x)
    image = layers.UpSampling2D(2, interpolation="bilinear", name="upsampled")(inputs)
    return keras.Model(
        inputs, layers.Add(name="add")([image, detail]), name="super_resolution_transposed"
    )
