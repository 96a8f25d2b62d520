"""The networks of the benchmarks. `backend` is keras, or tf_keras for what runs on Keras 2 alone."""

from types import ModuleType
from typing import Any

import keras


def lenet5(classes: int = 10, backend: ModuleType = keras) -> Any:
    """Returns Caffe's LeNet-5: 20 and 50 convolutions 5x5, 500 and 10 dense units; 430,500 weights, raw logits."""
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


def mobile_blocks(classes: int = 10, width: int = 32, backend: ModuleType = keras) -> Any:
    """Returns a small BatchNorm and depthwise network for 28x28 images, with one residual addition; raw logits."""
    layers = backend.layers

    def norm_relu(x: Any, name: str) -> Any:
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))

    def block(x: Any, filters: int, name: str, strides: int = 1) -> Any:
        depthwise = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise")
        x = norm_relu(depthwise(x), f"{name}_depthwise")
        return norm_relu(layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x), f"{name}_pointwise")

    inputs = layers.Input((28, 28, 1), name="image")
    x = norm_relu(layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs), "stem")
    x = block(x, 2 * width, "block_1")
    x = layers.Add(name="add")([x, block(x, 2 * width, "block_2")])
    x = block(x, 4 * width, "block_3", strides=2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return backend.Model(inputs, layers.Dense(classes, name="head")(x), name="mobile_blocks")
