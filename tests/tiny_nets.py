"""Tiny nets and data, gradients, and Python in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfqreg as tq


def dense_net(seed: int = 0) -> keras.Model:
    """6 -> 16 relu -> 1."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,), name="features")
    x = layers.Dense(16, activation="relu", name="body")(inputs)
    return keras.Model(inputs, layers.Dense(1, name="head")(x), name="dense_net")


def conv_net(seed: int = 0) -> keras.Model:
    """Convolution, BatchNorm, ReLU, pool; a residual of two more; a classifier."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    y = layers.Conv2D(4, 1, name="pointwise")(y)
    x = layers.Add(name="residual")([x, y])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="conv_net")


def regression(
    samples: int = 64, features: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and one target each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features)).astype(np.float32)
    return x, np.tanh(x @ rng.normal(size=(features, 1)).astype(np.float32))


def kernels(model: keras.Model) -> list[tuple[Any, Any]]:
    """All (QuantizedKernel, float kernel) pairs of a model."""
    return [
        pair
        for layer in model._flatten_layers()
        if isinstance(layer, tq.Quantized)
        for pair in layer.kernel_pairs()
    ]


def quantizer_names(model: keras.Model) -> list[str]:
    """The names of a model's activation quantizers, sorted."""
    return sorted(
        {x.name for x in model._flatten_layers() if isinstance(x, tq.QuantizedActivation)}
    )


def gradients(f: Callable[..., Any], *arguments: Any) -> list[Any]:
    """The gradients of `f(*arguments)` in each argument, None where it is constant."""
    tensors = [tf.constant(x) for x in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = f(*tensors)
    return [None if g is None else g.numpy() for g in tape.gradient(value, tensors)]


def finite_difference(f: Callable[[np.ndarray], Any], x: Any, step: float = 1e-6) -> np.ndarray:
    """The gradient of the scalar `f` at `x`, by central differences in float64."""
    shape, x = (
        np.shape(x),
        np.atleast_1d(np.asarray(x, np.float64)),
    )  # numpy rounds a scalar to a float32 beside it
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        delta = np.zeros_like(x)
        delta[index] = step
        gradient[index] = np.sum(f(x + delta) - f(x - delta)) / (2 * step)
    return gradient.reshape(shape)


def run_python(
    code: str, *arguments: Any, backend: str = "tensorflow", python: str = sys.executable
) -> str:
    """Runs code in a new process, `sys.argv[1:]` the arguments; returns what it prints."""
    env = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def larger_half(w: Any) -> np.ndarray:
    """The mask of the weights above the median magnitude."""
    return np.abs(np.asarray(w)) > np.median(np.abs(np.asarray(w)))


def weights(count: int) -> Any:
    """As many weights as a penalty needs to know of."""
    return SimpleNamespace(count=count)
