"""PowerOfTwo, Focused and their mixture: the invariants of focused quantization, by number."""

import math

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import finite_difference, gradients
from tfqreg import Focused, PowerOfTwo
from tfqreg.quantizers.mixture import fit_mixture, separation
from tfqreg.quantizers.power_of_two import nearest_power, unit_for

RNG = np.random.default_rng(4)


def two_humps(size=(60, 20), mean=0.5, deviation=0.1) -> np.ndarray:
    return (RNG.choice([-1, 1], size) * RNG.normal(mean, deviation, size)).astype(np.float32)


def powers(values, exponents: int) -> np.ndarray:
    return np.asarray(nearest_power(tf.constant(np.float32(values)), float(exponents), exponents))


def test_invariant_1_levels_of_shift_quantization():
    v = np.linspace(-300, 300, 60_001)
    for exponents in (2, 3, 4, 7, 8):
        q = powers(v, exponents)
        assert sorted(set(q.tolist())) == sorted(
            [0.0] + [s * 2.0**e for e in range(exponents) for s in (-1, 1)]
        )
        np.testing.assert_array_equal(powers(q, exponents), q)
        np.testing.assert_array_equal(powers(-v, exponents), -q)
        assert np.all(np.diff(q) >= 0)


def test_invariant_2_relative_error_is_at_most_a_third():
    v = np.linspace(0.76, 95.9, 20_001)
    error = np.abs(powers(v, 7) - v) / v
    assert error[v >= 1].max() <= 1 / 3 + 1e-6 and error[v >= 1].max() > 0.33


def test_invariant_3_the_worked_example():
    weights = np.float32([0, -3.81, 1.50, 5.63, 0, -5.69, 4.54, -3.13, 2.44])
    centre = 16 * np.float32([0, -1, 1, 1, 0, -1, 1, -1, 1])
    state = {
        name: np.float32([value])
        for name, value in (("unit", 0.25), ("alpha", 1.0), ("exponent_count", 4))
    }
    codes, params = Focused(5).encode(weights, {**state, "centre": centre})
    values = codes * params["scale"] * (weights != 0)
    np.testing.assert_array_equal(values, [0, -3.75, 2, 6, 0, -6, 4.5, -3, 2])
    residuals = (codes - centre) * params["scale"] * (weights != 0)
    np.testing.assert_array_equal(residuals, [0, 0.25, -2, 2, 0, -2, 0.5, 1, -2])


def test_invariant_4_nineteen_levels_around_16():
    state = {
        name: np.float32([value])
        for name, value in (("unit", 1.0), ("alpha", 1.0), ("exponent_count", 4))
    }
    levels = set()
    for centre in (-16.0, 16.0):
        w = np.linspace(-40, 40, 8001, dtype=np.float32)
        levels |= set(
            Focused(5).encode(w, {**state, "centre": np.full_like(w, centre)})[0].tolist()
        )
    assert sorted(levels | {0}) == sorted(
        {0} | {s * n for n in (8, 12, 14, 15, 16, 17, 18, 20, 24) for s in (-1, 1)}
    )


def test_invariant_5_separation_is_2_where_mean_and_deviation_are_equal():
    for mean, deviation in ((1.0, 1.0), (0.3, 0.3), (0.9, 1.0), (1.0, 0.9)):
        apart = separation(np.array([-mean, mean]), np.full(2, deviation), mean**2 + deviation**2)
        assert np.sign(apart - 2.0) == np.sign(mean - deviation) and apart < 4.0
    humps = np.concatenate([RNG.normal(-3, 1, 50_000), RNG.normal(3, 1, 50_000)])
    found = fit_mixture(humps)
    assert found is not None and found.separation == pytest.approx(4 * 9 / (9 + 1), rel=0.02)
    for changed in (7.0 * humps, humps + 0.0):
        again = fit_mixture(changed)
        assert again is not None and again.separation == pytest.approx(found.separation, rel=1e-6)
    shifted = fit_mixture(np.concatenate([RNG.normal(-3, 1, 50_000), RNG.normal(5, 1, 50_000)]))
    assert shifted is not None and shifted.separation == pytest.approx(4 * 16 / (16 + 1), rel=0.02)


def test_invariant_6_em_never_lowers_the_likelihood():
    for w in (
        two_humps((4000,)),
        RNG.normal(size=4000),
        RNG.laplace(size=4000),
        RNG.gamma(2.0, size=4000) - 0.5,
    ):
        mixture = fit_mixture(w)
        assert mixture is not None
        steps = np.diff(mixture.log_likelihoods)
        assert len(steps) > 1 and steps.min() > -1e-9
        assert mixture.weights.sum() == pytest.approx(1.0)
        assert mixture.means[0] < mixture.means[1]


def test_invariant_6_components_are_drawn_by_their_weights():
    w = (
        np.concatenate([RNG.normal(-1, 0.1, 3000), RNG.normal(1, 0.1, 9000)])
        .astype(np.float32)
        .reshape(-1, 4)
    )
    state = Focused().fit_state(w, (1,))
    assert np.mean(state["centre"] > 0) == pytest.approx(0.75, abs=0.01)
    np.testing.assert_array_equal(
        Focused().fit_state(w, (1,))["centre"], state["centre"]
    )  # repeatable
    flat = RNG.normal(size=(100, 20)).astype(np.float32)
    drawn, likelier = (
        Focused(separation=0, sample=sample).fit_state(flat, (1,))["centre"]
        for sample in (True, False)
    )
    assert np.any(drawn != likelier)


@pytest.mark.parametrize("bits,exponents", [(3, 2), (4, 4), (5, 8)])
def test_invariant_7_as_few_weights_overflow_as_allowed(bits, exponents):
    w = RNG.normal(size=20_000)
    unit = unit_for(w, exponents, bits)
    assert math.log2(unit).is_integer()
    overflow = [np.mean(np.abs(w) > unit * factor * 2 ** (exponents - 1)) for factor in (1.0, 0.5)]
    assert overflow[0] <= 1 / (2**bits + 1) < overflow[1]


def test_invariant_8_pruned_weights_stay_zero():
    layer = tq.Quantized(layers.Dense(20), Focused(), prune=tq.Surgery(0.75))
    layer.build((None, 60))
    kernel, variable = layer.kernel_pairs()[0]
    variable.assign(two_humps())
    mask = RNG.random((60, 20)) < 0.25
    kernel.freeze(variable, mask)
    assert kernel.quantizer.is_recentred(kernel.state)
    for w in (
        layer.encode()["kernel"][0],
        kernel.weights_in_use(variable),
        kernel.quantized(variable),
    ):
        np.testing.assert_array_equal(np.asarray(w) != 0, mask)  # invariant 9: no survivor is lost


def test_invariant_10_gradients():
    w, upstream = two_humps((30, 4)), RNG.normal(size=(30, 4)).astype(np.float32)
    quantizer = Focused()
    state = quantizer.fit_state(w, (1,))
    assert quantizer.is_recentred(state)

    def value(w, alpha):
        return tf.reduce_sum(quantizer(w, {**state, "alpha": alpha}) * upstream)

    in_w, in_alpha = gradients(value, w, np.float32([[1.0]]))
    np.testing.assert_allclose(in_w, upstream, rtol=1e-6)
    codes, params = quantizer.encode(w, state)
    levels = codes * params["scale"].astype(np.float64)
    np.testing.assert_allclose(
        in_alpha,
        finite_difference(lambda a: np.sum(a * levels * upstream), np.float64([[1.0]])),
        rtol=1e-4,
    )
    in_w, _ = gradients(value, w, np.float32([[1.5]]))
    np.testing.assert_allclose(in_w, 1.5 * upstream, rtol=1e-6)


def test_invariant_12_the_strict_rule_of_overflow():
    w = RNG.normal(size=200_000)
    strict = unit_for(w, 4, 4)
    assert strict == 2.0 ** (1 - 3)  # largest level 2
    errors = [np.mean((u * powers(w / u, 4) - w) ** 2) for u in (strict, strict / 2)]
    assert errors == pytest.approx([0.0417, 0.158], rel=0.03)


@pytest.mark.parametrize("bits,largest", [(4, 7), (5, 127)])
@pytest.mark.parametrize("mean", [0.5, 3.0, 0.01])
def test_exact_codes_fit_their_integer(bits, largest, mean):
    for w in (two_humps(mean=mean, deviation=mean / 30), two_humps(mean=mean, deviation=mean / 3)):
        quantizer = Focused(bits)
        state = quantizer.fit_state(w, (1,))
        codes, params = quantizer.encode(w, state)
        assert quantizer.is_recentred(state) and codes.dtype == np.int8
        assert np.abs(codes.astype(int)).max() <= largest
        np.testing.assert_array_equal(
            quantizer(tf.constant(w), state), quantizer.decode(codes, params)
        )
        assert np.mean((codes * params["scale"] - w) ** 2) < 0.1 * np.mean(w**2)


def test_paper_mode_has_all_exponents():
    w = np.float32(2.0 ** np.arange(-7, 1)).reshape(1, -1)
    assert PowerOfTwo(5).exponents == 7 and PowerOfTwo(5, mode="paper").exponents == 8
    codes, _ = PowerOfTwo(7, mode="paper").encode(w, PowerOfTwo(7, mode="paper").fit_state(w, (1,)))
    assert codes.dtype == np.int64 and codes.max() > 127


@pytest.mark.parametrize(
    "w",
    [
        np.abs(two_humps()),
        two_humps((2, 3)),
        np.zeros((5, 4), np.float32),
        RNG.normal(size=(100, 20)).astype(np.float32),
    ],
    ids=["one-sided", "few", "zero", "one hump"],
)
def test_kernels_without_two_components_are_shift_quantized(w):
    quantizer = Focused()
    state = quantizer.fit_state(w, (1,))
    assert not quantizer.is_recentred(state) and float(state["exponent_count"].item()) == 7
    np.testing.assert_array_equal(
        quantizer(tf.constant(w), state), PowerOfTwo().__call__(tf.constant(w), state)
    )


@pytest.mark.parametrize("cls", [PowerOfTwo, Focused])
@pytest.mark.parametrize(
    "bits,mode", [(3, "exact"), (6, "exact"), (7, "exact"), (3, "paper"), (8, "paper")]
)
def test_bits_out_of_range(cls, bits, mode):
    with pytest.raises(
        ValueError, match=f"{cls.__name__}: `bits` must be .* of 4 to .*Received: bits={bits}"
    ):
        cls(bits, mode=mode)


def test_other_arguments_out_of_range():
    with pytest.raises(ValueError, match="`mode` must be"):
        PowerOfTwo(mode="float")
    with pytest.raises(ValueError, match="`separation` must be 0 or more"):
        Focused(separation=-1.0)
