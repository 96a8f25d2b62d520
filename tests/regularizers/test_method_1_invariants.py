"""The invariants of the learnable MSQE regularization, each by its number."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_nets import finite_difference, gradients, weights
from tfqreg import MSQE, PartialL2, Uniform
from tfqreg.pruning.magnitude import exact_threshold
from tfqreg.pruning.partial_l2 import partial_squares
from tfqreg.regularizers.msqe import squared_error
from tfqreg.regularizers.power_of_two_scale import power_of_two_squares
from tfqreg.regularizers.sinusoidal import sine_squares

RNG = np.random.default_rng(1)
W = RNG.normal(size=(40, 5)).astype(np.float32)


def on_grid(scale, bits=4, narrow=True):
    return Uniform(bits, narrow=narrow), {"log2_scale": np.log2(np.float32(scale)).reshape(1, 1)}


def mean_error(w, quantizer, state):
    return float(squared_error(w, quantizer.nearest(w, state))) / w.size


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_invariant_1_error_is_zero_exactly_on_the_grid_and_bounded_inside_it(bits):
    quantizer, state = on_grid(0.5, bits)
    largest = quantizer.largest_code
    codes = (
        RNG.integers(-largest, largest + 1, (40, 5)) if bits > 1 else RNG.choice([-1, 1], (40, 5))
    )
    w = (codes * np.float32(0.5)).astype(np.float32)
    assert mean_error(w, quantizer, state) == 0.0
    w[3, 2] += 0.01
    assert mean_error(w, quantizer, state) > 0.0
    if bits > 1:
        inside = RNG.uniform(-(largest + 0.5), largest + 0.5, (40, 5)).astype(
            np.float32
        ) * np.float32(0.5)
        assert 0.0 < mean_error(inside, quantizer, state) <= 0.25 * 0.5**2


def test_invariant_2_gradient_in_the_scale():
    quantizer, (scale, size) = Uniform(3), (0.37, W.size)
    q = quantizer.encode(W, {"log2_scale": np.log2(np.float32([[scale]]))})[0].astype(np.float64)
    by_hand = -2 / size * np.sum((W - scale * q) * q)
    np.testing.assert_allclose(
        finite_difference(lambda s: np.mean((W - s * q) ** 2), scale), by_hand, rtol=1e-5
    )
    (gradient,) = gradients(
        lambda s: squared_error(
            W, quantizer.nearest(tf.constant(W), {"log2_scale": tf.math.log(s) / np.log(2.0)})
        ),
        np.float32([[scale]]),
    )
    np.testing.assert_allclose(gradient / size, [[by_hand]], rtol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_invariant_3_neither_half_of_the_alternation_raises_the_error(bits):
    w, largest = W.astype(np.float64).ravel(), 2 ** (bits - 1) - 1
    scale, error = np.abs(w).max() / largest, np.inf
    for _ in range(6):
        q = np.clip(np.round(w / scale), -largest, largest)
        assigned = np.sum((w - scale * q) ** 2)
        assert assigned <= error * (1 + 1e-12)
        scale = np.sum(w * q) / np.sum(q * q)
        error = np.sum((w - scale * q) ** 2)
        assert error <= assigned * (1 + 1e-12)
    fitted = Uniform(bits).fit_state(W, (1,))
    assert mean_error(W, Uniform(bits), fitted) * W.size <= error * (1 + 1e-4)


def test_invariant_4_the_coefficient_tends_to_alpha_over_the_error():
    penalty = MSQE(alpha=0.02)
    penalty.register(weights(100))
    squares = tf.constant(5.0)  # R = 0.05, held
    optimizer = keras.optimizers.SGD(0.5)
    for _ in range(300):
        with tf.GradientTape() as tape:
            cost = penalty.cost(squares, 100)
        optimizer.apply_gradients(
            [(tape.gradient(cost, penalty.omega_unit.value), penalty.omega_unit)]
        )
    assert float(penalty.omega) == pytest.approx(np.log(0.02 / 0.05), abs=1e-3)
    assert float(np.exp(penalty.omega)) * 0.05 == pytest.approx(0.02, rel=1e-3)


def equilibrium(penalty: MSQE, error: float) -> float:
    penalty.start_from(error, head_start=0.0)
    return float(penalty.omega)


def weight_gradient(penalty: MSQE, count: int, factor: float = 1.0) -> np.ndarray:
    quantizer, state = on_grid(0.4)
    (gradient,) = gradients(
        lambda w: penalty.cost(factor * squared_error(w, quantizer.nearest(w, state)), count), W
    )
    return gradient


def test_invariant_5_scaling_the_error_shifts_the_coefficient_and_leaves_the_gradient():
    plain, scaled, factor = MSQE(alpha=0.02), MSQE(alpha=0.02), 50.0
    error = mean_error(W, *on_grid(0.4))
    plain.register(weights(W.size))
    scaled.register(weights(W.size))
    assert equilibrium(scaled, factor * error) - equilibrium(plain, error) == pytest.approx(
        -np.log(factor), abs=1e-5
    )
    np.testing.assert_allclose(
        weight_gradient(scaled, W.size, factor),
        weight_gradient(plain, W.size),
        rtol=1e-4,
        atol=1e-8,
    )


def test_invariant_6_at_equilibrium_the_penalty_is_alpha_times_the_logarithm_of_the_error():
    quantizer, state = on_grid(0.4)
    error = mean_error(W, quantizer, state)
    levels = np.asarray(quantizer(W, state), np.float64)
    expected = finite_difference(lambda w: 0.02 * np.log(np.sum((w - levels) ** 2)), W)
    for normaliser in (W.size, 1):  # the mean, then the sum
        penalty = MSQE(alpha=0.02)
        penalty.register(weights(normaliser))
        equilibrium(penalty, error * W.size / normaliser)
        np.testing.assert_allclose(
            weight_gradient(penalty, normaliser), expected, rtol=2e-3, atol=1e-7
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_invariant_7_quantization_is_idempotent_and_codes_times_scale_are_the_weights(bits):
    quantizer = Uniform(bits, per_channel=True)
    state = quantizer.fit_state(W, (1,))
    once = np.asarray(quantizer(W, state))
    np.testing.assert_array_equal(np.asarray(quantizer(once, state)), once)
    codes, params = quantizer.encode(W, state)
    np.testing.assert_array_equal(codes.astype(np.float32) * params["scale"], once)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_invariant_8_partial_l2_spares_large_weights_and_pruning_twice_changes_nothing(share):
    threshold = exact_threshold([W], share)
    (gradient,) = gradients(lambda w: partial_squares(w, threshold), W)
    np.testing.assert_array_equal(gradient[np.abs(W) > threshold], 0.0)
    np.testing.assert_allclose(
        gradient[np.abs(W) <= threshold], 2 * W[np.abs(W) <= threshold], rtol=1e-6
    )
    assert np.mean(np.abs(W) <= threshold) == share  # 200 different magnitudes
    pruned = np.where(np.abs(W) > threshold, W, 0)
    again = np.where(np.abs(pruned) > exact_threshold([pruned], share), pruned, 0)
    np.testing.assert_array_equal(again, pruned)
    assert PartialL2(share).sparsity == share


def test_invariant_9_a_power_of_two_has_no_penalty_and_two_snaps_equal_one():
    for exponent in (-7.0, 0.0, 3.0):
        (gradient,) = gradients(power_of_two_squares, np.float32([[exponent]]))
        assert float(power_of_two_squares(np.float32([[exponent]]))) == 0.0 and not np.any(gradient)
    quantizer = Uniform(4, per_channel=True, power_of_two=True)
    state = {name: keras.Variable(value) for name, value in quantizer.fit_state(W, (1,)).items()}
    scales = []
    for _ in range(2):
        quantizer.settle(state)
        scales.append(np.asarray(quantizer.scale(state)))
    np.testing.assert_array_equal(*scales)
    assert np.all(np.frexp(scales[0])[0] == 0.5)


def test_invariant_10_near_the_grid_the_sine_of_method_2_is_the_squared_error():
    quantizer, state = on_grid(0.5)
    errors = RNG.uniform(-1, 1, (40, 5)).astype(np.float32)
    for size, tolerance in ((1e-2, 1e-3), (1e-1, 0.05)):
        w = np.float32(0.5) * (RNG.integers(-6, 7, (40, 5)) + size * errors).astype(np.float32)
        sine = float(np.sum(sine_squares(quantizer.positions(w, state))))
        squares = float(squared_error(w, quantizer.nearest(w, state)))
        assert sine / (np.pi**2 * squares / 0.5**2) == pytest.approx(1.0, rel=tolerance)
