"""LearnedBits: its grid at whole and broken bits, what beta feels, what settling keeps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import finite_difference, gradients
from tfqreg import LearnedBits

PACE = LearnedBits().pace
W = np.random.default_rng(3).normal(scale=0.4, size=(50, 4)).astype(np.float32)


def at(beta: float, largest: float = 1.0) -> dict[str, np.ndarray]:
    values = {"beta_unit": beta / PACE, "range": largest, "frozen": 0.0}
    return {name: np.full((1, 1), value, np.float32) for name, value in values.items()}


@pytest.mark.parametrize("beta", range(1, 8))
def test_levels_at_whole_bits(beta):
    n = 2**beta - 1
    codes, params = LearnedBits().encode(
        np.linspace(-2, 2, 4001, dtype=np.float32)[:, None], at(beta)
    )
    assert sorted(set(codes.ravel().tolist())) == list(range(-n, n + 1))
    assert params["bits"] == beta + 1
    np.testing.assert_allclose(params["scale"], 1 / n, rtol=1e-5)


def test_broken_bits_keep_their_spacing_and_round_up_their_range():
    codes, params = LearnedBits().encode(
        np.linspace(-2, 2, 4001, dtype=np.float32)[:, None], at(2.5)
    )
    assert codes.max() == 7 and params["bits"] == 4
    np.testing.assert_allclose(params["scale"], 1 / (2**2.5 - 1), rtol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 2.3, 5.0, 6.7, 7.0])
@pytest.mark.parametrize("loss_aware", [False, True])
def test_three_faces(beta, loss_aware):
    quantizer, state = LearnedBits(loss_aware=loss_aware), at(beta, np.abs(W).max())
    q = quantizer(tf.constant(W), state)
    np.testing.assert_array_equal(q, quantizer.decode(*quantizer.encode(W, state)))
    compiled = tf.function(lambda w, unit: quantizer(w, {**state, "beta_unit": unit}))
    np.testing.assert_array_equal(compiled(W, state["beta_unit"]), q)


def test_the_loss_reaches_beta_only_where_it_is_asked_to():
    upstream = np.random.default_rng(1).normal(size=W.shape).astype(np.float32)

    def loss(unit, aware):
        state = {**at(0.0, 1.0), "beta_unit": unit}
        return tf.reduce_sum(LearnedBits(loss_aware=aware)(tf.constant(W), state) * upstream)

    unit = np.full((1, 1), 0.26, np.float32)
    (blind,) = gradients(lambda u: loss(u, False), unit)
    assert blind is None or not np.any(blind)

    q = LearnedBits().encode(W, at(2.6))[0].astype(np.float64)
    inside = (
        np.abs(q) < 7
    )  # the surrogate: codes follow w/spacing within the range, and stand still outside it
    inside |= np.abs(W * (2**2.6 - 1)) <= 7
    in_spacing = np.sum(upstream * np.where(inside, q - W * (2**2.6 - 1), q))
    chain = finite_difference(lambda u: 1 / (2 ** (PACE * u) - 1), np.float64(0.26))
    (aware,) = gradients(lambda u: loss(u, True), unit)
    np.testing.assert_allclose(aware.item(), in_spacing * chain, rtol=2e-3)


@pytest.mark.parametrize(
    "optimizer,power",
    [(keras.optimizers.Adam, 1), (keras.optimizers.Lion, 1), (keras.optimizers.SGD, 2)],
)
def test_pace_is_beta_step_size_of_its_own_under_any_optimizer(optimizer, power):
    def moved(pace: float) -> float:
        layer = tq.Quantized(
            layers.Dense(4, use_bias=False), LearnedBits(loss_aware=True, pace=pace)
        )
        layer.build((None, 50))
        layer.layer.kernel.assign(W)
        layer.fit_quantizers()
        kernel = layer.kernels["kernel"]
        kernel.state["beta_unit"].assign([[4.0 / pace]])
        chosen = optimizer(1e-5)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(np.ones((1, 50), np.float32)))
        unit = kernel.state["beta_unit"]
        chosen.apply([tape.gradient(value, unit.value)], [unit])
        return float(kernel.quantizer.beta(kernel.state).numpy().item()) - 4.0

    assert moved(100.0) / moved(10.0) == pytest.approx(10.0**power, rel=0.1)


def test_settling_freezes_beta_and_moves_nothing():
    layer = tq.Quantized(layers.Dense(3), LearnedBits(loss_aware=True))
    layer.build((None, 5))
    kernel = layer.kernels["kernel"]
    kernel.state["beta_unit"].assign([[0.33]])
    before = layer.encode()["kernel"]
    kernel.settle()
    kernel.state["beta_unit"].assign([[0.61]])
    kernel.settle()  # a second time changes nothing
    after = layer.encode()["kernel"]
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1]["scale"] == after[1]["scale"]
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(layer(np.ones((1, 5), np.float32)))
    in_beta = tape.gradient(y, kernel.state["beta_unit"].value)
    assert in_beta is None or not np.any(in_beta)


def test_an_optimizer_keeps_beta_within_its_bounds():
    layer = tq.Quantized(layers.Dense(3), LearnedBits(largest=6, smallest=2))
    layer.build((None, 5))
    unit = layer.kernels["kernel"].state["beta_unit"]
    optimizer = keras.optimizers.SGD(10.0)
    optimizer.build([unit])
    optimizer.apply([tf.ones((1, 1))], [unit])
    assert unit.numpy().item() == pytest.approx(0.2)
    optimizer.apply([-tf.ones((1, 1))], [unit])
    assert unit.numpy().item() == pytest.approx(0.6)


def test_training_computes_with_float_weights_until_it_settles():
    layer = tq.Quantized(layers.Dense(3, use_bias=False), LearnedBits(largest=1))
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    y = np.asarray(layer(x))
    np.testing.assert_allclose(y, x @ np.asarray(layer.layer.kernel), rtol=1e-5)
    layer.kernels["kernel"].settle()
    codes, params = layer.encode()["kernel"]
    np.testing.assert_allclose(layer(x), x @ (codes * params["scale"]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bounds", [{"largest": 8}, {"smallest": 0}, {"largest": 3, "smallest": 4}])
def test_bounds_out_of_range(bounds):
    with pytest.raises(ValueError, match="LearnedBits: `bits` must be a whole number"):
        LearnedBits(**bounds)


def test_pace_out_of_range():
    with pytest.raises(
        ValueError, match=r"LearnedBits: `pace` must be a positive number\. Received: pace=0"
    ):
        LearnedBits(pace=0)
