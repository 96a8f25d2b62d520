"""Scales at powers of two: the penalty that pulls them, the snap, and what ships."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, finite_difference, gradients, kernels, regression
from tfqreg import MSQE, Quantized, Uniform
from tfqreg.export import export_tflite, verify
from tfqreg.regularizers.power_of_two_scale import power_of_two_squares

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_squares_and_their_gradient():
    log2_scale = np.float32([[-3.0, 1.25, -2.75, 0.4]])
    assert float(power_of_two_squares(log2_scale)) == pytest.approx(2 * 0.25**2 + 0.4**2)
    (gradient,) = gradients(power_of_two_squares, log2_scale)
    expected = finite_difference(lambda x: np.sum((x - np.round(x)) ** 2), log2_scale)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_the_cost_has_a_coefficient_of_its_own():
    layer = Quantized(
        layers.Dense(4, use_bias=False), Uniform(3, True, power_of_two=True), MSQE(scale_alpha=0.05)
    )
    layer.build((None, 6))
    kernel, penalty = layer.kernels["kernel"], layer.regularizer
    penalty.start([(kernel, layer.layer.kernel)])
    distance = float(power_of_two_squares(kernel.state["log2_scale"])) / 4
    assert float(penalty.scale_penalty.omega) == pytest.approx(
        np.log(0.05 / distance) - 3.0, abs=1e-4
    )
    with tf.GradientTape() as tape:
        (cost,) = layer.losses
    squares = float(kernel.grid_squares(layer.layer.kernel)) / 24
    expected = (
        float(penalty.strength_now) * squares + float(penalty.scale_penalty.strength_now) * distance
    )
    assert float(cost) == pytest.approx(expected, rel=1e-5)
    omegas = [penalty.omega_unit.value, penalty.scale_penalty.omega_unit.value]
    assert all(gradient is not None for gradient in tape.gradient(cost, omegas))


@pytest.mark.parametrize("bits,per_channel", [(1, False), (2, True), (8, False)])
def test_settled_scales_are_powers_of_two_in_every_face(bits, per_channel):
    quantizer = Uniform(bits, per_channel, power_of_two=True)
    fitted = quantizer.fit_state(W, (1,))
    state = {name: keras.Variable(value) for name, value in fitted.items()}
    for _ in range(2):  # the second snap changes nothing
        quantizer.settle(state)
        codes, params = quantizer.encode(W, state)
        exponents = np.round(np.asarray(fitted["log2_scale"]))
        np.testing.assert_array_equal(
            params["scale"], np.ldexp(np.float32(1.0), exponents.astype(int))
        )
        np.testing.assert_array_equal(quantizer(W, state), quantizer.decode(codes, params))
        np.testing.assert_array_equal(quantizer.nearest(W, state), quantizer.decode(codes, params))
    (gradient,) = gradients(
        lambda s: tf.reduce_sum(quantizer.nearest(tf.constant(W), {**state, "log2_scale": s})),
        np.asarray(state["log2_scale"]),
    )
    assert gradient is None or not np.any(gradient)


def test_exact_over_all_exponents():
    quantizer = Uniform(2, power_of_two=True)
    exponents = np.arange(-100.0, 100.0, dtype=np.float32)
    scale = quantizer.scale({"log2_scale": exponents + 0.3, "snapped": np.float32(1.0)})
    np.testing.assert_array_equal(scale, np.ldexp(np.float32(1.0), exponents.astype(int)))


def test_training_brings_the_scales_near_the_snap_takes_the_rest_and_their_exponents_ship(tmp_path):
    rule = tq.Rule(".*", Uniform(4, per_channel=True, power_of_two=True), MSQE(scale_alpha=0.01))
    q = tq.quantize(dense_net(), [rule])
    before = mean_distance(q)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = regression(128)
    q.fit(x, y, epochs=10, batch_size=16, verbose=0, callbacks=[tq.Stages(settle_from=1.0)])
    assert 0.0 < mean_distance(q) < 0.4 * before
    for kernel, _ in kernels(q):
        kernel.settle()
    assert mean_distance(q) == 0.0
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), q.predict(x, verbose=0))
    export_tflite(again, tmp_path / "q.tflite", container=tmp_path / "q.tqw")
    assert verify(again, tmp_path / "q.tflite", x[:8], runtimes=["litert"]).exact
    for kernel, w in kernels(again):
        assert np.all(
            np.frexp(kernel.encode(w)[1]["scale"])[0] == 0.5
        )  # the mantissa of a power of two


def mean_distance(model: keras.Model) -> float:
    log2_scales = np.concatenate(
        [np.ravel(kernel.state["log2_scale"]) for kernel, _ in kernels(model)]
    )
    return float(np.mean(np.abs(log2_scales - np.round(log2_scales))))


def test_the_penalty_wants_a_quantizer_that_snaps():
    with pytest.raises(
        ValueError, match=r"kernel: `scale_alpha` needs .*power_of_two=True.*Received: Uniform"
    ):
        Quantized(layers.Dense(2), Uniform(4), MSQE(scale_alpha=0.1)).build((None, 3))
    with pytest.raises(ValueError, match=r"`alpha` must be a positive number. Received: alpha=-1"):
        MSQE(scale_alpha=-1)


def test_config():
    penalty = MSQE(scale_alpha=0.2)
    assert MSQE.from_config(penalty.get_config()).get_config() == penalty.get_config()
    assert penalty.get_config()["scale_alpha"] == 0.2 and MSQE().get_config()["scale_alpha"] is None
