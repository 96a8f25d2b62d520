"""Dampening and QSin: values, gradients against finite differences, schedules, configuration,
saving.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, finite_difference, gradients, kernels, regression
from tfqreg import WRPN, Dampening, QSin, Quantized, Uniform
from tfqreg.regularizers.qsin import qsin_squares

W = np.float32(
    [[0.02, -0.62], [0.31, 0.85], [-2.4, 0.11], [1.7, -0.07]]
)  # none at the boundary of a cell below
SCALE = 0.3


def wrapped(penalty, bits: int = 3) -> Quantized:
    layer = Quantized(layers.Dense(2, use_bias=False), Uniform(bits), penalty)
    layer.build((None, 4))
    layer.layer.kernel.assign(W)
    layer.kernels["kernel"].state["log2_scale"].assign(np.log2(np.float32([[SCALE]])))
    return layer


def gradient_in_w(layer, penalty):
    with tf.GradientTape() as tape:
        value = penalty.measure(layer.kernels["kernel"], layer.layer.kernel)
    return float(value), tape.gradient(value, layer.layer.kernel.value)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_dampening_is_the_squared_error_inside_the_range(bits):
    penalty = Dampening()
    layer = wrapped(penalty, bits)
    largest = Uniform(bits).largest_code
    levels = np.asarray(layer.kernels["kernel"].quantized(W), np.float64)

    def by_hand(w):
        return np.sum((np.clip(w, -SCALE * largest, SCALE * largest) - levels) ** 2)

    value, gradient = gradient_in_w(layer, penalty)
    assert value == pytest.approx(by_hand(W), rel=1e-4)
    np.testing.assert_allclose(gradient, finite_difference(by_hand, W), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_qsin_is_a_sine_inside_and_a_parabola_outside(bits):
    penalty = QSin()
    layer = wrapped(penalty, bits)
    largest, step = Uniform(bits).largest_code, SCALE * (2 if bits == 1 else 1)

    def by_hand(w):
        v = (w / SCALE + 1) / 2 if bits == 1 else w / SCALE
        low, high = (0, 1) if bits == 1 else (-largest, largest)
        sine, parabola = np.sin(np.pi * v) ** 2 / np.pi**2, (v - np.clip(v, low, high)) ** 2
        return np.sum(step**2 * np.where((v >= low) & (v <= high), sine, parabola)) / W.size

    value, gradient = gradient_in_w(layer, penalty)
    assert value == pytest.approx(by_hand(W.astype(np.float64)), rel=1e-4)
    np.testing.assert_allclose(gradient, finite_difference(by_hand, W), rtol=1e-3, atol=1e-5)


def test_qsin_near_a_level_is_the_squared_error():
    error = np.random.default_rng(0).uniform(-1e-3, 1e-3, 100).astype(np.float32)
    ratio = np.asarray(qsin_squares(error, -3.0, 3.0), np.float64).sum() / np.sum(
        error.astype(np.float64) ** 2
    )
    assert ratio == pytest.approx(1.0, rel=1e-4)


def test_qsin_has_no_jump_at_the_end_of_the_range():
    (force,) = gradients(
        lambda v: tf.reduce_sum(qsin_squares(v, -3.0, 3.0)), np.float32([2.999, 3.0, 3.001])
    )
    np.testing.assert_allclose(force, [-0.002, 0.0, 0.002], atol=1e-5)


def test_schedules():
    damp, qsin = Dampening(0.4), QSin(10.0)
    seen = []
    for step in range(9):
        damp.at_step(step, 8)
        qsin.at_step(step, 9)
        seen.append((float(damp.strength_now), float(qsin.strength_now)))
    damps, qsins = zip(*seen, strict=True)
    assert damps[0] == 0.0 and damps[4] == pytest.approx(0.2) and damps[8] == pytest.approx(0.4)
    assert list(damps) == sorted(damps)
    assert qsins == pytest.approx([0.1] * 3 + [1.0] * 3 + [10.0] * 3)


@pytest.mark.parametrize("penalty", [Dampening(1.0), QSin(30.0)], ids=lambda p: type(p).__name__)
def test_training_brings_weights_nearer_and_saves(penalty, tmp_path):
    q = tq.quantize(dense_net(), [tq.Rule(".*", Uniform(3), penalty)], activations=None)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = regression(128)
    before = np.mean([row["grid_error"] for row in tq.kernel_figures(q).values()])
    q.fit(x, y, epochs=10, batch_size=16, verbose=0, callbacks=tq.callbacks_for(q))
    assert np.mean([row["grid_error"] for row in tq.kernel_figures(q).values()]) < 0.7 * before
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), q.predict(x, verbose=0))
    assert len({id(kernel.regularizer) for kernel, _ in kernels(again)}) == 1
    assert again.evaluate(x, y, verbose=0) == q.evaluate(x, y, verbose=0)  # lambda is in the file


@pytest.mark.parametrize("make", [Dampening, QSin])
def test_bad_input(make):
    for strength in (0, -1.0, float("nan"), True, "much"):
        with pytest.raises(
            ValueError, match=f"{make.__name__}: `strength` must be a positive number. Received: "
        ):
            make(strength)
    with pytest.raises(
        ValueError, match=f"kernel: {make.__name__} needs the quantizer Uniform. Received: WRPN"
    ):
        Quantized(layers.Dense(2), WRPN(3), make()).build((None, 3))
