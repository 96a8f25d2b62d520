"""The squared error to the grid, in the loss of a wrapped layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.tiny_nets import finite_difference, gradients
from tfqreg import MSQE, Quantized, Uniform
from tfqreg.regularizers.msqe import squared_error

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_squared_error_by_hand():
    w, levels = np.float32([1.0, 2.0, -3.0]), np.float32([0.5, 2.0, -1.0])
    assert float(squared_error(w, levels)) == 0.25 + 4.0
    assert float(squared_error(w, levels, np.array([True, True, False]))) == 0.25


def test_gradients_of_the_squared_error():
    levels = np.round(W)
    in_w, in_levels = gradients(squared_error, W, levels)
    np.testing.assert_allclose(
        in_w, finite_difference(lambda w: np.sum((w - levels) ** 2), W), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(in_levels, -in_w)


def wrapped(bits: int = 3, per_channel: bool = False, **arguments) -> Quantized:
    layer = Quantized(layers.Dense(4, use_bias=False), Uniform(bits, per_channel), **arguments)
    layer.build((None, 6))
    layer.layer.kernel.assign(W)
    layer.fit_quantizers()
    return layer


def test_gradient_in_the_weights_of_a_layer():
    layer = wrapped(regularizer=MSQE(coefficient=3.0))
    q, params = layer.encode()["kernel"]
    with tf.GradientTape() as tape:
        (penalty,) = layer.losses
    gradient = tape.gradient(penalty, layer.layer.kernel.value)
    np.testing.assert_allclose(
        gradient, 3.0 * 2 / W.size * (W - q * params["scale"]), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("regularized", [False, True])
def test_the_scale_follows_the_error(per_channel, regularized):
    """Also where no regularizer pulls the weights."""
    layer = wrapped(2, per_channel, regularizer=MSQE(coefficient=5.0) if regularized else None)
    log2_scale = layer.kernels["kernel"].state["log2_scale"]
    log2_scale.assign(log2_scale + 0.3)
    q, params = layer.encode()["kernel"]
    scale = params["scale"].astype(np.float64)
    expected = (
        finite_difference(lambda s: np.sum((W - s * q) ** 2) / W.size, scale) * scale * np.log(2)
    )
    with tf.GradientTape() as tape:
        (penalty,) = layer.losses
    in_scale, in_w = tape.gradient(penalty, [log2_scale.value, layer.layer.kernel.value])
    np.testing.assert_allclose(in_scale, (5.0 if regularized else 1.0) * expected, rtol=1e-3)
    assert (in_w is not None and bool(np.any(in_w))) == regularized


def test_a_scale_of_the_loss_gets_nothing_from_the_error():
    layer = Quantized(layers.Dense(4), Uniform(3, scale_from="task"), MSQE(coefficient=1.0))
    layer.build((None, 6))
    with tf.GradientTape() as tape:
        (penalty,) = layer.losses
    assert float(penalty) > 0
    gradient = tape.gradient(penalty, layer.kernels["kernel"].state["log2_scale"].value)
    assert gradient is None or not np.any(gradient)


def test_training_drives_weights_to_the_grid():
    layer = wrapped(2, regularizer=MSQE(alpha=0.05))
    kernel = layer.kernels["kernel"]
    layer.regularizer.start_from(float(kernel.grid_squares(layer.layer.kernel)) / W.size)
    before = float(kernel.grid_squares(layer.layer.kernel))
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            (penalty,) = layer.losses
        optimizer.apply(
            tape.gradient(penalty, [v.value for v in layer.trainable_variables]),
            layer.trainable_variables,
        )

    start = float(layer.regularizer.omega)
    for _ in range(200):
        step()
    assert float(kernel.grid_squares(layer.layer.kernel)) < 0.02 * before
    assert float(layer.regularizer.omega) > start + 2.0  # the coefficient reinforced itself
