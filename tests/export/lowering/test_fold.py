"""BatchNorm in the scales, codes as trained, biases that fit: against the same sums in float64."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import tfqreg as tq
from tfqreg.export.lowering.fold import (
    FoldedWeights,
    fold_norm,
    identity_weights,
    integer_weights,
    weights_of,
)

SHIFTS = {1: 6, 2: 6, 3: 5, 4: 4, 5: 3, 6: 2, 7: 1, 8: 0}
LARGEST_BIAS = 2**30


def wrapped(
    layer: keras.layers.Layer, quantizer: tq.Uniform, shape=(None, 8, 8, 3)
) -> tq.Quantized:
    keras.utils.set_random_seed(0)
    wrapper = tq.Quantized(layer, weights=quantizer)
    wrapper.build(shape)
    layer.bias.assign(np.linspace(-1, 1, layer.bias.shape[0]))
    wrapper.fit_quantizers()
    return wrapper


def norm_of(gamma, variance, mean=0.3, beta=-0.2, epsilon=1e-3) -> keras.layers.BatchNormalization:
    norm = layers.BatchNormalization(epsilon=epsilon, name="norm")
    norm.build(
        (
            None,
            len(np.broadcast_to(gamma, np.broadcast_shapes(np.shape(gamma), np.shape(variance)))),
        )
    )
    for variable, value in zip(norm.weights, (gamma, beta, mean, variance), strict=True):
        variable.assign(np.broadcast_to(value, variable.shape))
    return norm


def sums(codes: np.ndarray, channel_axis: int, seed: int = 0, count: int = 200) -> np.ndarray:
    """Accumulators without bias, (count, channels), for random centred inputs."""
    rows = (
        np.moveaxis(codes, channel_axis, 0).reshape(codes.shape[channel_axis], -1).astype(np.int64)
    )
    return np.random.default_rng(seed).integers(-255, 256, (count, rows.shape[1])) @ rows.T


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", SHIFTS)
@pytest.mark.parametrize(
    ("layer", "shape", "order", "stored"),
    [
        (lambda: layers.Conv2D(5, (3, 2)), (None, 8, 8, 3), (3, 0, 1, 2), (5, 3, 2, 3)),
        (
            lambda: layers.DepthwiseConv2D((3, 2), depth_multiplier=2),
            (None, 8, 8, 3),
            (0, 1, 2, 3),
            (1, 3, 2, 6),
        ),
        (lambda: layers.Dense(4), (None, 7), (1, 0), (4, 7)),
    ],
    ids=["conv", "depthwise", "dense"],
)
def test_codes_are_the_trained_ones(layer, shape, order, stored, bits, per_channel):
    wrapper = wrapped(layer(), tq.Uniform(bits, per_channel=per_channel), shape)
    codes, params = wrapper.encode()["kernel"]
    weights = weights_of(wrapper, "layer")
    np.testing.assert_array_equal(weights.codes, codes.transpose(order).reshape(stored))
    np.testing.assert_array_equal(weights.bias, np.float32(np.linspace(-1, 1, len(weights.bias))))

    data, scale, shift, bias = integer_weights(weights, 0.02, 0.05)
    assert shift == SHIFTS[bits]
    np.testing.assert_array_equal(data, weights.codes.astype(int) << shift)
    assert (data.dtype, scale.dtype, bias.dtype) == (np.int8, np.float32, np.int32)
    assert scale.size == (len(weights.scale) if per_channel else 1)
    expected = wrapper.quantizer.decode(codes, params).transpose(order).reshape(stored)
    along = scale.reshape([-1 if i == weights.channel_axis else 1 for i in range(len(stored))])
    np.testing.assert_array_equal(data * along, expected)
    # Half a unit of the bias, or half of the 1/32 output step it is rounded to.
    largest = max(0.5 * 0.02 * scale.max(), 0.05 / 64) * (1 + 1e-6)
    np.testing.assert_allclose(
        bias * (np.float64(np.float32(0.02)) * scale), weights.bias, atol=largest, rtol=1e-6
    )


def test_a_layer_without_bias_gets_zeros():
    wrapper = tq.Quantized(layers.Dense(3, use_bias=False))
    wrapper.build((None, 4))
    assert integer_weights(weights_of(wrapper, "dense"), 0.1, 0.1)[3].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bits", range(2, 8))
def test_wide_ranges_shift_one_less(bits):
    wrapper = wrapped(layers.Dense(3), tq.Uniform(bits, narrow=False), (None, 40))
    wrapper.layer.kernel.assign(-np.abs(np.asarray(wrapper.layer.kernel)))
    wrapper.kernels["kernel"].state["log2_scale"].assign([[-9.0]])
    weights = weights_of(wrapper, "dense")
    assert weights.codes.min() == -(2 ** (bits - 1))
    # A negative gamma turns the lowest code into one above the usual range.
    data, _, shift, _ = integer_weights(fold_norm(weights, norm_of(-np.ones(3), 1.0)), 0.1, 0.1)
    assert shift == SHIFTS[bits] - 1
    np.testing.assert_array_equal(data, -weights.codes.astype(int) << shift)


def test_the_code_minus_128_is_refused():
    wrapper = wrapped(layers.Dense(3), tq.Uniform(8, narrow=False), (None, 4))
    wrapper.kernels["kernel"].state["log2_scale"].assign([[-12.0]])
    with pytest.raises(
        ValueError, match=r"block/dense: .* Use Uniform\(narrow=True\)\. Received: code -128"
    ):
        weights_of(wrapper, "block/dense")


GAMMAS = [1.0, -0.7, 0.0, 1e-20, -1e-8, 3.0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-12])
@pytest.mark.parametrize("variance", [1e-12, 0.5, 1e6])
def test_norms_fold_into_scales(variance, epsilon, bits):
    wrapper = wrapped(layers.Conv2D(len(GAMMAS), 3), tq.Uniform(bits, per_channel=bits == 4))
    trained = weights_of(wrapper, "conv")
    folded = fold_norm(trained, norm_of(np.float64(GAMMAS), variance, epsilon=epsilon))
    # The norm itself, in float64 and in Keras' order.
    source = 0.02
    plain = sums(trained.codes, 0) * (source * trained.scale) + trained.bias
    gamma, mean, beta = (
        np.float64(np.float32(GAMMAS)),
        np.float64(np.float32(0.3)),
        np.float64(np.float32(-0.2)),
    )
    expected = (plain - mean) / np.sqrt(np.float64(np.float32(variance)) + epsilon) * gamma + beta
    target = float(np.clip(np.abs(expected[:, :2]).max() / 100, 1e-3, None))

    data, scale, shift, bias = integer_weights(folded, source, target)
    scale = np.broadcast_to(scale, len(GAMMAS)).astype(np.float64)
    factor = source * scale / target
    assert factor.max() < 256
    computed = (sums(data, 0) + bias) * factor
    error = np.abs(np.clip(computed, -256, 256) - np.clip(expected / target, -256, 256))
    # Half a unit of the bias or half of 1/32 step, and float32's rounding of the scale.
    assert (
        error <= np.maximum(0.5 * factor, 1 / 64) + 1e-5 * np.abs(expected / target) + 0.01
    ).all()
    # Codes stay what they were, but for the sign, wherever the channel is not as good as constant.
    normal = np.float64(np.abs(GAMMAS)) > 1e-3
    signs = np.sign(GAMMAS)[normal, None, None, None].astype(int)
    np.testing.assert_array_equal(data[normal], trained.codes[normal].astype(int) * signs << shift)
    assert not data[GAMMAS.index(0.0)].any()


def test_biases_drop_the_bits_that_move_no_output():
    weights = FoldedWeights(
        np.full((2, 1, 1, 1), 3, np.int16), np.array([1e-4, 1e-4]), np.array([0.1234, -3.21]), 3, 0
    )
    data, scale, shift, bias = integer_weights(weights, 0.02, 0.05)
    unit = 0.02 * float(scale[0])
    step = 2 ** int(np.log2(0.05 / 32 / unit))
    assert shift == 5 and data.ravel().tolist() == [96, 96] and step == 16384
    assert (bias % step == 0).all()
    np.testing.assert_allclose(bias * unit, weights.bias, atol=0.05 / 64)


def test_equal_scales_become_one():
    codes = np.ones((3, 1, 1, 2), np.int16)
    weights = FoldedWeights(codes, np.array([0.1, 0.1, 0.1]), np.zeros(3), 8, 0)
    assert integer_weights(weights, 0.1, 0.1)[1].shape == (1,)
    weights = FoldedWeights(codes, np.array([0.1, 0.1, 0.2]), np.zeros(3), 8, 0)
    assert integer_weights(weights, 0.1, 0.1)[1].shape == (3,)


def test_a_norm_alone_is_a_depthwise_kernel_of_ones():
    folded = fold_norm(
        identity_weights(2), norm_of([2.0, -3.0], 1.0, mean=1.0, beta=0.5, epsilon=0.0)
    )
    np.testing.assert_array_equal(folded.codes.ravel(), [1, -1])
    np.testing.assert_array_equal(folded.scale, [2, 3])
    np.testing.assert_array_equal(folded.bias, [-1.5, 3.5])
    assert integer_weights(folded, 0.1, 0.1)[0].shape == (1, 1, 1, 2)


def test_a_norm_without_scale_and_center():
    norm = layers.BatchNormalization(scale=False, center=False, epsilon=0.0)
    norm.build((None, 2))
    norm.moving_mean.assign([1.0, 2.0])
    norm.moving_variance.assign([4.0, 0.25])
    folded = fold_norm(identity_weights(2), norm)
    np.testing.assert_array_equal(folded.scale, [0.5, 2.0])
    np.testing.assert_array_equal(folded.bias, [-0.5, -4.0])


def test_two_norms_fold_one_after_the_other():
    norms = [norm_of([2.0, -1.0], 1.0, 0.5, 0.25, 0.0), norm_of([-3.0, -4.0], 4.0, 1.0, 2.0, 0.0)]
    folded = fold_norm(fold_norm(identity_weights(2), norms[0]), norms[1])
    x = np.linspace(-2, 2, 9)[:, None]
    expected = (((x - 0.5) * [2.0, -1.0] + 0.25) - 1.0) / 2 * [-3.0, -4.0] + 2.0
    np.testing.assert_allclose(
        x * folded.codes.ravel() * folded.scale + folded.bias, expected, rtol=1e-12
    )


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_norm_is_named(position, value):
    norm = norm_of(np.ones(3), 1.0)
    norm.weights[position].assign([0.5, value, 0.5])
    with pytest.raises(
        ValueError, match=rf"norm/{norm.weights[position].name}: NaN or infinity .* 1 of 3 values"
    ):
        fold_norm(identity_weights(3), norm)


def test_a_broken_bias_is_named():
    wrapper = wrapped(layers.Dense(3), tq.Uniform(8), (None, 4))
    wrapper.layer.bias.assign([np.nan, 1.0, np.inf])
    with pytest.raises(ValueError, match=r"block/dense/bias: NaN or infinity .* 2 of 3 values"):
        weights_of(wrapper, "block/dense")


numbers = st.floats(-1e30, 1e30, allow_subnormal=False)
magnitudes = st.floats(1e-30, 1e30)
activation_scales = st.floats(1e-6, 1e3)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(magnitudes, numbers), min_size=1, max_size=4),
    st.integers(1, 8),
    activation_scales,
    activation_scales,
    st.integers(0, 99),
)
def test_any_scale_and_bias_stay_within_the_runtimes_limits(channels, bits, source, target, seed):
    top = max(1, 2 ** (bits - 1) - 1)
    codes = (
        np.random.default_rng(seed)
        .integers(-top, top + 1, (len(channels), 3, 3, 2))
        .astype(np.int16)
    )
    scale, bias = np.array(channels).T
    data, stored, _, steps = integer_weights(
        FoldedWeights(codes, scale, bias, bits, 0), source, target
    )
    assert np.abs(data.astype(int)).max(initial=0) <= 127
    assert np.abs(steps.astype(np.int64)).max() <= LARGEST_BIAS
    assert np.abs(steps + sums(data, 0, seed)).max() < 2**31
    factor = np.float32(source) * stored / np.float32(target)
    assert ((factor >= 2.0**-25) & (factor < 256)).all()

    expected = (sums(codes, 0, seed) * (source * scale) + bias) / target
    computed = (sums(data, 0, seed) + steps) * factor.astype(np.float64)
    held = (
        source * scale / target <= 2 ** SHIFTS[bits] * 255
    )  # others saturate at a smaller multiplier
    error = np.abs(np.clip(computed, -256, 256) - np.clip(expected, -256, 256))
    # Sums that nearly cancel a large bias carry float32's relative error of both.
    size = np.abs(expected - bias / target) + np.abs(bias / target)
    assert (error <= 0.5 * factor + 1e-6 * size + 0.1)[:, held].all()
    clear = np.abs(expected) > 2 * source * scale / target
    assert (np.sign(computed) == np.sign(expected))[clear & ~held].all()
