"""Surgery: hysteresis, weights that return, the final mask."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression
from tfqreg import Quantized, Surgery
from tfqreg.pruning.surgery import surgery_mask


def pruning_layer(**arguments) -> tuple[Quantized, object, keras.Variable]:
    keras.utils.set_random_seed(0)
    layer = Quantized(layers.Dense(4, use_bias=False), tq.Uniform(4), prune=Surgery(**arguments))
    layer.build((None, 10))
    kernel, variable = layer.kernel_pairs()[0]
    return layer, kernel, variable


def test_a_weight_between_the_thresholds_keeps_its_state():
    w = np.float32([0.9, 0.91, 1.1, 1.11])
    for before in (True, False):
        expected = [False, before, before, True]
        np.testing.assert_array_equal(surgery_mask(w, np.full(4, before), 1.0, 0.1), expected)


def test_a_cut_weight_learns_and_returns():
    layer, kernel, variable = pruning_layer(sparsity=0.5)
    kernel.prune.update([(kernel, variable)], 0.5)
    mask = np.asarray(kernel.mask)
    magnitude = np.abs(np.asarray(variable))
    np.testing.assert_array_equal(mask, magnitude > np.quantile(magnitude, 0.5))
    assert 0.0 < mask.mean() < 1.0
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(np.ones((1, 10), np.float32)))
    np.testing.assert_allclose(y, np.sum(np.asarray(variable) * mask), rtol=1e-5)
    np.testing.assert_array_equal(
        tape.gradient(y, variable.value), np.ones((10, 4))
    )  # the cut ones as well
    variable.assign(np.where(mask, 1e-3, 1.0))
    kernel.prune.update([(kernel, variable)], 0.5)
    assert np.all(np.asarray(kernel.mask)[~mask])


def test_the_final_mask_holds():
    layer, kernel, variable = pruning_layer(sparsity=0.5)
    kernel.prune.update([(kernel, variable)], 0.5)
    assert not kernel.frozen
    (mask,) = kernel.prune.final_masks([(kernel, variable)], 0.5)
    kernel.freeze(variable, mask)
    assert kernel.frozen
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(np.ones((1, 10), np.float32)))
    gradient = tape.gradient(y, variable.value)
    np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0)


def test_threshold_by_deviations():
    _, kernel, variable = pruning_layer(sparsity=0.8, deviations=0.5, margin=0.0)
    (mask,) = kernel.prune.final_masks([(kernel, variable)], 0.8)
    magnitude = np.abs(np.asarray(variable))
    np.testing.assert_array_equal(mask, magnitude > magnitude.mean() + 0.5 * magnitude.std())


def test_a_threshold_that_kills_a_layer():
    _, kernel, variable = pruning_layer(sparsity=0.8, deviations=50.0)
    with pytest.raises(
        ValueError, match=r"dense.*/kernel: .* leaves no weight.*Received: .*deviations=50"
    ):
        kernel.prune.update([(kernel, variable)], 0.8)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*surviving weights:UserWarning")  # one of the kernels is small
@pytest.mark.parametrize(
    "quantizer", [tq.Focused(), tq.PowerOfTwo(4), tq.Uniform(3), tq.WRPN(4)], ids=repr
)
def test_training_comes_to_the_sparsity_asked_for(quantizer):
    q = tq.quantize(dense_net(), [tq.Rule(".*", quantizer, prune=Surgery(0.6))])
    q.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = regression(128)
    q.fit(x, y, epochs=6, batch_size=8, verbose=0, callbacks=tq.callbacks_for(q))
    for kernel, variable in kernels(q):
        assert np.sum(~np.asarray(kernel.mask)) == round(0.6 * kernel.count)
        assert np.all(kernel.encode(variable)[0][~np.asarray(kernel.mask)] == 0)
    assert np.isfinite(q.evaluate(x, y, verbose=0))


@pytest.mark.parametrize(
    "arguments", [{"sparsity": 1.0}, {"margin": 1.0}, {"deviations": float("nan")}]
)
def test_arguments_out_of_range(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"Surgery: `{name}`.*Received: {name}="):
        Surgery(**arguments)
