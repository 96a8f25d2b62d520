"""Focused quantization of whole layers: kernels it suits, notes on others, zeros that stay."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tfqreg.export import lower
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers.mixture import fit_mixture

RNG = np.random.default_rng(5)


def humps(size=(60, 20), mean=0.5, deviation=0.1) -> np.ndarray:
    return (RNG.choice([-1, 1], size) * RNG.normal(mean, deviation, size)).astype(np.float32)


def wrapped(w: np.ndarray, quantizer: tq.Focused, prune: bool = True) -> tq.Quantized:
    layer = tq.Quantized(
        layers.Dense(w.shape[1], name="hidden"), quantizer, prune=tq.Surgery(0.5) if prune else None
    )
    layer.build((None, w.shape[0]))
    layer.kernel_pairs()[0][1].assign(w)
    return layer


def half(w: np.ndarray) -> np.ndarray:
    return RNG.random(w.shape) < 0.5


@pytest.mark.parametrize(
    "w,reason",
    [
        (humps((5, 4)), "surviving weights .* but both need 16"),
        (np.abs(humps()), "surviving weights 0 are negative and .* are positive"),
        (np.sign(humps()) * np.float32(0.3), "all surviving weights of one sign are equal"),
        (
            np.where(humps() > 0, np.abs(humps()), np.float32(-0.3)),
            "all surviving weights of one sign are equal",
        ),
    ],
    ids=["few", "one-sided", "equal", "equal on one side"],
)
def test_kernels_that_cannot_be_recentred_are_shift_quantized_and_named(w, reason):
    layer = wrapped(w, tq.Focused())
    kernel, variable = layer.kernel_pairs()[0]
    with pytest.warns(
        UserWarning, match=f"hidden/kernel: shift quantization takes the place .*{reason}"
    ):
        kernel.freeze(variable, half(w))
    assert not kernel.quantizer.is_recentred(kernel.state)
    codes, params = layer.encode()["kernel"]
    np.testing.assert_array_equal(
        kernel.quantized(variable), kernel.quantizer.decode(codes, params)
    )
    assert np.mean((codes * params["scale"] - np.asarray(variable)) ** 2) < 0.06 * np.mean(
        np.square(variable)
    )


def test_a_dense_kernel_works_with_a_note():
    layer = wrapped(humps(), tq.Focused(), prune=False)
    with pytest.warns(
        UserWarning, match=r"hidden/kernel: none of its weights is pruned.*: give it `prune`"
    ):
        layer.fit_quantizers()
    kernel, _ = layer.kernel_pairs()[0]
    assert kernel.quantizer.is_recentred(kernel.state)
    assert np.count_nonzero(layer.encode()["kernel"][0]) == kernel.count


def test_nothing_is_said_of_a_sparse_kernel_or_of_one_still_to_be_pruned():
    w = humps()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = wrapped(np.abs(w), tq.Focused())
        layer.fit_quantizers()
        kernel, variable = layer.kernel_pairs()[0]
        variable.assign(w)
        kernel.freeze(variable, half(w))
        kernel.refit(variable)


def test_invariant_5_below_the_separation_powers_of_two_serve():
    w = humps(mean=0.5, deviation=0.3)
    mixture = fit_mixture(w)
    assert mixture is not None
    for separation, recentred in ((0.99, True), (1.01, False)):
        quantizer = tq.Focused(separation=separation * mixture.separation)
        assert quantizer.is_recentred(quantizer.fit_state(w, (1,))) == recentred


def test_invariant_9_no_survivor_is_lost_but_where_a_mean_and_a_power_cancel():
    w = humps((200, 50), mean=0.4, deviation=0.3)
    quantizer = tq.Focused(separation=0.0)
    state = quantizer.fit_state(w, (1,))
    assert quantizer.is_recentred(state)
    codes, _ = quantizer.encode(w, state)
    residuals = codes - np.asarray(state["centre"])
    np.testing.assert_array_equal(codes == 0, residuals == -np.asarray(state["centre"]))
    assert np.all(np.isin(np.abs(residuals), [0, 1, 2, 4, 8]))
    far = quantizer.fit_state(humps((200, 50), mean=0.5, deviation=0.05), (1,))
    assert np.all(np.abs(far["centre"]) > 8) and np.all(quantizer.encode(w, far)[0] != 0)


def pruned_net() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.Input((40,)), layers.Dense(30, "relu", name="hidden"), layers.Dense(20, name="head")]
    )
    x = RNG.normal(size=(128, 40)).astype(np.float32)
    return net, x, np.tanh(x[:, :20])


class Zeros(keras.callbacks.Callback):
    """Asserts after each batch that what is pruned for good computes as 0; notes the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: set[float] = set()

    def on_train_batch_end(self, batch, logs=None):
        for layer in quantized_layers(self.model):
            for kernel, variable in layer.kernel_pairs():
                if kernel.frozen:
                    pruned = ~np.asarray(kernel.mask)
                    assert not np.asarray(kernel.weights_in_use(variable))[pruned].any()
                    assert not kernel.encode(variable)[0][pruned].any()
                    self.shares.add(
                        round(float(np.mean(np.abs(variable) >= np.asarray(kernel.float_below))), 1)
                    )


def test_invariant_8_pruned_weights_stay_zero_from_surgery_to_the_tflite():
    net, x, y = pruned_net()
    quantizers = {"hidden": tq.Focused(separation=0.0), "head": tq.PowerOfTwo(4)}
    q = tq.quantize(
        net, [tq.Rule(name, each, prune=tq.Surgery(0.75)) for name, each in quantizers.items()]
    )
    q.compile(keras.optimizers.Adam(0.01), "mse")
    watch = Zeros()
    q.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[*tq.callbacks_for(q), watch])
    assert len(watch.shares) > 1
    tensors = lower(q).tensors
    for layer in quantized_layers(q):
        kernel, variable = layer.kernel_pairs()[0]
        mask = np.asarray(kernel.mask)
        assert mask.sum() == kernel.count - round(0.75 * kernel.count)
        codes = np.asarray(tensors[f"{layer.name}/kernel"].data).T
        np.testing.assert_array_equal(codes != 0, layer.encode()["kernel"][0] != 0)
        # A survivor goes to 0 only under half of the smallest power of two, or where mean and power
        # cancel.
        lost = mask & (codes == 0)
        w, unit = np.asarray(variable), np.asarray(kernel.state["unit"])
        if layer.name == "hidden":
            centre = np.asarray(kernel.state["centre"])
            assert np.all(np.isin(np.abs(centre[lost]), [1, 2, 4, 8]))
        else:
            np.testing.assert_array_equal(lost, mask & (np.abs(w / unit) <= 0.5))


def test_gradient_of_a_pruned_weight_is_zero_once_quantized():
    w = humps()
    layer = wrapped(w, tq.Focused())
    kernel, variable = layer.kernel_pairs()[0]
    mask = half(w)
    kernel.freeze(variable, mask)
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(np.ones((1, 60), np.float32)))
    np.testing.assert_array_equal(tape.gradient(y, variable.value), mask.astype(np.float32))
