"""SinReQ and SinAReQ: the invariants of sinusoidal regularization by number, schedules, the learned
bits in a layer.
"""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, finite_difference, gradients, kernels, regression
from tfqreg import MSQE, WRPN, DoReFa, LearnedBits, PartialL2, Quantized, SinAReQ, SinReQ, Uniform
from tfqreg.regularizers.sinusoidal import rise_at, sine_squares

PACE = LearnedBits().pace
RNG = np.random.default_rng(2)
# Published with a public unit test of the regularizer: 16 weights, and four of them again.
KNOWN = [0.002, 0.0098, 0.0025, 0.0021, 0.0140, 0.098, 0.033, 0.0166]
KNOWN += [0.0206, 0.0284, 0.04, 0.029, 0.0145, 0.0137, 0.003, 0.0294]
AGAIN = [0.033, 0.0137, 0.0206, 0.0166]


def wrapped(w, quantizer, regularizer) -> Quantized:
    layer = Quantized(layers.Dense(w.shape[1], use_bias=False), quantizer, regularizer)
    layer.build((None, w.shape[0]))
    layer.layer.kernel.assign(w)
    layer.fit_quantizers()
    return layer


def measured(w, quantizer, regularizer=None, beta: float | None = None) -> float:
    regularizer = regularizer or SinReQ()
    layer = wrapped(np.float32(w).reshape(len(w), -1), quantizer, regularizer)
    kernel = layer.kernels["kernel"]
    if beta is not None:
        kernel.state["beta_unit"].assign([[beta / PACE]])
    return float(regularizer.measure(kernel, layer.layer.kernel))


def test_invariant_1_zero_exactly_on_the_levels_and_bounded_by_2_to_minus_beta():
    codes = RNG.integers(-7, 8, (30, 2))
    assert measured(codes / 7, WRPN(4, normalize=False)) < 1e-11
    w = np.clip(RNG.normal(size=(300, 2)), -1, 1)
    for power in (0, 1, 2):
        assert 0 < measured(w, WRPN(4, normalize=False), SinReQ(power=power)) <= 8.0**-power


@pytest.mark.parametrize("power", [0, 1, 2])
def test_invariant_2_gradients_are_those_of_the_formula(power):
    w, beta = RNG.normal(scale=0.3, size=(40, 1)).astype(np.float32), 2.6
    regularizer = SinReQ(power=power)
    quantizer = LearnedBits(normalize=False)
    layer = wrapped(w, quantizer, regularizer)
    kernel = layer.kernels["kernel"]
    kernel.state["beta_unit"].assign([[beta / PACE]])
    with tf.GradientTape() as tape:
        value = regularizer.measure(kernel, layer.layer.kernel)
    in_w, in_unit = tape.gradient(
        value, [layer.layer.kernel.value, kernel.state["beta_unit"].value]
    )
    steps = 2**beta - 1
    u = math.pi * w.astype(np.float64) * steps
    np.testing.assert_allclose(
        in_w, math.pi * steps / 2 ** (power * beta) * np.sin(2 * u) / w.size, rtol=2e-3, atol=1e-6
    )
    expected = (
        np.log(2)
        * np.mean(math.pi * w * 2**beta * np.sin(2 * u) - power * np.sin(u) ** 2)
        / 2 ** (power * beta)
    )
    np.testing.assert_allclose(in_unit / PACE, expected, rtol=2e-3)

    def by_hand(b):
        return np.mean(np.sin(math.pi * w * (2**b - 1)) ** 2) / 2 ** (power * b)

    np.testing.assert_allclose(expected, finite_difference(by_hand, np.float64(beta)), rtol=1e-4)


def test_invariant_2_no_force_at_a_level_nor_midway():
    (force,) = gradients(
        lambda v: tf.reduce_sum(sine_squares(v)), np.float32([0, 1, -3, 0.5, -2.5])
    )
    np.testing.assert_allclose(force, 0, atol=1e-5)
    (force,) = gradients(lambda v: tf.reduce_sum(sine_squares(v)), np.float32([0.25, 0.75]))
    np.testing.assert_allclose(force, [math.pi, -math.pi], rtol=1e-5)


def test_invariant_3_curvature_at_a_level_and_the_convex_zone():
    def force(x):
        return gradients(lambda v: tf.reduce_sum(sine_squares(v)), np.float32([x]))[0].item()

    curvature = {
        x: (force(x + 1e-3) - force(x - 1e-3)) / 2e-3 for x in (0.0, 0.2, 0.24, 0.26, 0.45)
    }
    np.testing.assert_allclose(curvature[0.0], 2 * math.pi**2, rtol=1e-3)
    assert [c > 0 for c in curvature.values()] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "quantizer", [WRPN(4, normalize=False), DoReFa(3), LearnedBits(normalize=False)], ids=repr
)
def test_invariant_4_symmetric(quantizer):
    w = RNG.normal(scale=0.3, size=(60, 2))
    assert measured(w, quantizer) == pytest.approx(measured(-w, quantizer), rel=1e-4)


def test_invariant_5_near_the_grid_it_is_the_squared_error():
    error = RNG.uniform(-1, 1, (200, 1)) * 1e-3
    codes = RNG.integers(-7, 8, (200, 1))
    w, regularizer = ((codes + error) / 7).astype(np.float32), SinReQ(power=0)
    layer = wrapped(w, WRPN(4, normalize=False), regularizer)
    kernel = layer.kernels["kernel"]
    squares = float(kernel.grid_squares(layer.layer.kernel)) / w.size
    np.testing.assert_allclose(
        float(regularizer.measure(kernel, w)), math.pi**2 * 49 * squares, rtol=1e-3
    )


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
def test_invariant_6_zero_on_the_exact_grid_of_the_quantizer_that_is_used(bits):
    n = 2**bits - 1
    codes = RNG.choice(np.arange(-n, n + 1, 2), (80, 1))
    codes[0] = n  # the maximum normalizes
    w = np.arctanh(codes / n * np.tanh(1.0))
    assert measured(w, DoReFa(bits)) < 1e-9
    if bits > 1:
        n = 2 ** (bits - 1) - 1
        assert measured(RNG.integers(-n, n + 1, (80, 1)) / n, WRPN(bits, normalize=False)) < 1e-11
    grid = Uniform(bits)
    layer = wrapped(RNG.normal(size=(80, 1)).astype(np.float32), grid, SinReQ())
    codes, params = layer.encode()["kernel"]
    layer.layer.kernel.assign(codes * params["scale"])
    assert float(SinReQ().measure(layer.kernels["kernel"], layer.layer.kernel)) < 1e-10


def test_invariant_7_schedule():
    penalty = SinAReQ(bits_strength=0.02, strength=3.0, rise=0.2, fall=0.7)
    strengths = []
    for step in range(0, 1001, 10):
        penalty.at_step(step, 1000)
        strengths.append((float(penalty.strength_now), float(penalty.beta_strength)))
    weights, bits = np.array(strengths).T
    assert rise_at(0.2, 0.2, 0.02) == 0.5 and weights[20] == pytest.approx(1.5)
    assert weights[0] < 1e-6 and weights[-1] == pytest.approx(3.0) and np.all(np.diff(weights) >= 0)
    assert (
        np.all(bits >= 0) and bits[45] == pytest.approx(0.02) and bits[0] < 1e-6 and bits[-1] < 1e-6
    )


@pytest.mark.parametrize("strength", [0.02, 0.03])
def test_invariant_8_beta_comes_to_rest_where_the_formula_says(strength):
    w = np.clip(RNG.normal(scale=0.15, size=(50_000, 1)), -1, 1)
    w = tf.constant(w[np.abs(w) < 0.99].reshape(-1, 1), tf.float32)
    quantizer, beta = LearnedBits(normalize=False), tf.Variable([[7.0 / PACE]])
    state = {"beta_unit": beta, "range": tf.ones((1, 1)), "frozen": tf.zeros((1, 1))}

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            squares = tf.reduce_mean(sine_squares(quantizer.positions(w, state)))
            bits = tf.reduce_sum(quantizer.beta(state))
            cost = squares / 2.0**bits + strength * bits
        beta.assign_sub(0.02 * tape.gradient(cost, beta))

    for _ in range(400):
        step()
    rest = math.log2(math.log(2) * 0.5 / strength)
    assert float(quantizer.beta(state).numpy().item()) == pytest.approx(rest, abs=0.15)


def test_invariant_9_numeric_vector():
    assert measured(KNOWN, WRPN(5, normalize=False), SinReQ(reduction="sum")) == pytest.approx(
        0.5207707, rel=1e-5
    )
    for weights, expected in ((KNOWN, 0.0448480), (KNOWN + AGAIN, 0.0561217)):  # 8 bits and a sign
        squares = sine_squares(np.float32(weights) * np.float32(255))
        assert float(tf.reduce_sum(squares)) / 256 == pytest.approx(expected, rel=1e-4)


def test_invariant_10_bits_round_up():
    for beta in (1.0, 1.2, 3.999, 4.0, 6.5):
        state = {
            "beta_unit": np.float32([beta / PACE]),
            "range": np.float32([1]),
            "frozen": np.float32([0]),
        }
        bits = LearnedBits().encode(np.float32([2.0]), state)[1]["bits"] - 1
        assert bits == math.ceil(beta) and 1 <= bits / beta < 1 + 1 / beta


def test_the_cost_is_in_the_loss_and_the_scale_still_follows_the_error():
    penalty = SinReQ(strength=2.0)
    penalty.at_step(1000, 1000)
    layer = wrapped(RNG.normal(size=(20, 3)).astype(np.float32), Uniform(3), penalty)
    kernel = layer.kernels["kernel"]
    kernel.state["log2_scale"].assign_add([[0.2]])
    with tf.GradientTape() as tape:
        (loss,) = layer.losses
    in_w, in_scale = tape.gradient(
        loss, [layer.layer.kernel.value, kernel.state["log2_scale"].value]
    )
    squares = float(kernel.grid_squares(layer.layer.kernel)) / 60
    expected = 2.0 * float(penalty.measure(kernel, layer.layer.kernel)) + squares
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert np.any(in_w) and in_scale.numpy().item() != 0


@pytest.mark.long
def test_bits_are_learned_frozen_and_saved(tmp_path):
    rules = [tq.Rule(".*", LearnedBits(), SinAReQ(target_bits=3, strength=0.1))]
    q = tq.quantize(dense_net(), rules)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = regression(256)
    q.fit(x, y, epochs=15, batch_size=8, verbose=0, callbacks=tq.callbacks_for(q))
    betas = [float(k.quantizer.beta(k.state).numpy().item()) for k, _ in kernels(q)]
    counts = [k.count for k, _ in kernels(q)]
    assert np.average(betas, weights=counts) == pytest.approx(3.0, abs=0.5)
    assert all(k.state["frozen"].numpy().item() > 0 for k, _ in kernels(q))
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), q.predict(x, verbose=0))
    assert [row["beta"] for row in tq.kernel_figures(again).values()] == pytest.approx(betas)


def test_dorefa_cannot_be_pruned():
    with pytest.raises(ValueError, match=r"kernel: DoReFa has no level at 0.*Use WRPN or Uniform"):
        Quantized(layers.Dense(2), DoReFa(3), prune=PartialL2(0.5)).build((None, 3))


def test_learned_bits_and_their_penalty_belong_together():
    with pytest.raises(ValueError, match="SinAReQ learns the bits of a LearnedBits quantizer"):
        Quantized(layers.Dense(2), Uniform(3), SinAReQ()).build((None, 3))


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"strength": 0}, "`strength` must be a positive number"),
        ({"power": 3}, "`power` must be 0, 1 or 2"),
        ({"reduction": "max"}, "`reduction` must be"),
        ({"rise": 1.5}, "`rise` is a fraction"),
        ({"fall": 0.1}, "rise < fall <= 1"),
        ({"target_bits": -1}, "`target_bits` must be a positive number"),
    ],
)
def test_arguments_out_of_range(arguments, words):
    with pytest.raises(ValueError, match=f"SinAReQ: .*{words}.*Received: "):
        SinAReQ(**arguments)


def test_msqe_with_a_float_forward_settles_on_the_grid():
    layer = wrapped(RNG.normal(size=(5, 3)).astype(np.float32), Uniform(2), MSQE(forward="float"))
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_allclose(layer(x), x @ np.asarray(layer.layer.kernel), rtol=1e-5)
    layer.kernels["kernel"].settle()
    codes, params = layer.encode()["kernel"]
    np.testing.assert_allclose(layer(x), x @ (codes * params["scale"]), rtol=1e-4, atol=1e-6)
