"""The penalty on small weights alone."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.tiny_nets import finite_difference, gradients
from tfqreg import PartialL2, Quantized
from tfqreg.layers.kernel import Stage
from tfqreg.pruning.partial_l2 import partial_squares

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_by_hand():
    w = np.float32([1.0, -2.0, 3.0, 0.5])
    assert float(partial_squares(w, 2.0)) == 1.0 + 4.0 + 0.25  # the threshold itself counts
    assert float(partial_squares(w, 0.0)) == 0.0
    assert float(partial_squares(w, 10.0)) == 14.25


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8, 10.0])
def test_gradient(threshold):
    in_w, in_threshold = gradients(partial_squares, W, np.float32(threshold))
    expected = finite_difference(lambda w: np.sum(w[np.abs(w) <= threshold] ** 2), W)
    np.testing.assert_allclose(in_w, expected, rtol=1e-4, atol=1e-6)
    assert in_threshold is None


def test_in_the_loss_of_a_layer_while_it_prunes():
    layer = Quantized(layers.Dense(4), prune=PartialL2(0.5, coefficient=3.0))
    layer.build((None, 6))
    kernel, variable = layer.kernel_pairs()[0]
    variable.assign(W)
    kernel.stage.assign(Stage.PRUNE)
    kernel.set_threshold(0.7)
    with tf.GradientTape() as tape:
        (penalty,) = layer.losses
    np.testing.assert_allclose(penalty, 3.0 * np.sum(W[np.abs(W) <= 0.7] ** 2) / W.size, rtol=1e-5)
    gradient = np.asarray(tape.gradient(penalty, variable.value))
    np.testing.assert_allclose(
        gradient, np.where(np.abs(W) <= 0.7, 6.0 / W.size * W, 0.0), rtol=1e-5
    )


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 80, float("nan")])
def test_sparsity_is_a_share(sparsity):
    with pytest.raises(
        ValueError,
        match=r"PartialL2: `sparsity` is a fraction of the weights.* Received: sparsity=",
    ):
        PartialL2(sparsity)
