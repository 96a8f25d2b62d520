"""Uniform: levels, equality of its three faces, gradients, the fit of its scale."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.tiny_nets import finite_difference, gradients
from tfqreg import Uniform
from tfqreg.quantizers.uniform import grid_codes, least_squares_scale, sign_codes

BITS = range(1, 9)


def level_codes(bits: int, narrow: bool = True) -> list[int]:
    if bits == 1:
        return [-1, 1]
    largest = 2 ** (bits - 1) - 1
    return list(range(-largest if narrow else -largest - 1, largest + 1))


def with_scale(scale) -> dict[str, np.ndarray]:
    return {"log2_scale": np.log2(np.float32(scale))}


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_levels(bits, narrow):
    codes = level_codes(bits, narrow)
    assert len(codes) == (2**bits - (narrow and bits > 1))
    assert (Uniform(bits, narrow=narrow).smallest_code, Uniform(bits).largest_code) == (
        codes[0],
        codes[-1],
    )
    w = np.linspace(-(2.0**bits), 2.0**bits, 4001, dtype=np.float32) * np.float32(0.25)
    q = np.asarray(Uniform(bits, narrow=narrow)(w, with_scale(0.25)))
    assert sorted(set(q.tolist())) == [0.25 * code for code in codes]


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_levels_per_channel(bits, narrow):
    scale = np.float32([[0.25, 1.0, 8.0]])
    w = np.linspace(-(2.0**bits), 2.0**bits, 2001, dtype=np.float32)[:, None] * scale
    quantizer = Uniform(bits, per_channel=True, narrow=narrow)
    q = np.asarray(quantizer(w, with_scale(scale)))
    for channel in range(3):
        assert sorted(set(q[:, channel].tolist())) == [
            float(scale[0, channel]) * code for code in level_codes(bits, narrow)
        ]


def test_values_by_hand():
    w = np.float32([0.0, 0.1, 0.125, 0.25, 0.375, 0.6, -0.125, -0.375, 5.0, -5.0])
    state = with_scale(
        0.25
    )  # w / s = 0, 0.4, 0.5, 1, 1.5, 2.4, -0.5, -1.5, 20, -20; ties go to even
    np.testing.assert_array_equal(
        Uniform(3).encode(w, state)[0], np.int8([0, 0, 0, 1, 2, 2, 0, -2, 3, -3])
    )
    np.testing.assert_array_equal(
        Uniform(3, narrow=False).encode(w, state)[0], [0, 0, 0, 1, 2, 2, 0, -2, 3, -4]
    )
    np.testing.assert_array_equal(Uniform(2).encode(w, state)[0], [0, 0, 0, 1, 1, 1, 0, -1, 1, -1])
    np.testing.assert_array_equal(Uniform(1).encode(w, state)[0], [1, 1, 1, 1, 1, 1, -1, -1, 1, -1])


def test_encode_gives_int8_codes_and_float32_scale():
    codes, params = Uniform(4, per_channel=True).encode(
        np.ones((3, 2), np.float32), with_scale([[0.5, 0.25]])
    )
    assert codes.dtype == np.int8 and codes.tolist() == [[2, 4]] * 3
    assert params["scale"].dtype == np.float32 and params["scale"].tolist() == [[0.5, 0.25]]
    assert params["bits"] == 4


quantizers = st.builds(
    Uniform, st.integers(1, 8), st.booleans(), st.booleans(), st.sampled_from(["msqe", "task"])
)
compiled: dict = {}


def in_graph(quantizer, w, state):
    key = (quantizer, w.shape)
    if key not in compiled:
        compiled[key] = tf.function(lambda w, log2_scale: quantizer(w, {"log2_scale": log2_scale}))
    return compiled[key](w, state["log2_scale"])


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    quantizer=quantizers,
    shape=st.sampled_from([(1, 1), (7, 3), (3, 3, 2, 5), (2, 9)]),
)
def test_quantized_equals_decoded_bit_for_bit(data, quantizer, shape):
    values = (
        st.floats(-(2.0**100), 2.0**100, width=32)
        | st.floats(-1, 1, width=32)
        | st.sampled_from([0.0, -0.0, 2.0**127, -(2.0**-126)])
    )
    w = data.draw(arrays.arrays(np.float32, shape, elements=values))
    scales = quantizer.state_shapes(shape, (len(shape) - 1,))["log2_scale"]
    state = {
        "log2_scale": data.draw(
            arrays.arrays(np.float32, scales, elements=st.floats(-100, 100, width=32))
        )
    }
    expected = quantizer.decode(*quantizer.encode(w, state))
    for q in (quantizer(tf.constant(w), state), in_graph(quantizer, w, state)):
        # Codes have no negative zero: the only bit that may differ.
        np.testing.assert_array_equal(
            (q.numpy() + 0.0).view(np.uint32), (expected + 0.0).view(np.uint32)
        )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), quantizer=quantizers)
def test_quantizing_twice_changes_nothing(data, quantizer):
    w = data.draw(
        arrays.arrays(np.float32, (5, 4), elements=st.floats(-(2.0**60), 2.0**60, width=32))
    )
    scales = quantizer.state_shapes((5, 4), (1,))["log2_scale"]
    state = {
        "log2_scale": data.draw(
            arrays.arrays(np.float32, scales, elements=st.floats(-60, 60, width=32))
        )
    }
    once = np.asarray(quantizer(w, state))
    np.testing.assert_array_equal(np.asarray(quantizer(once, state)), once)


W = np.float32(
    [[0.02, -0.62], [0.31, 0.85], [-2.4, 0.11], [1.7, -0.07]]
)  # no value at a boundary of any grid below
UPSTREAM = np.float32([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25], [2.0, 1.5]])


@pytest.mark.parametrize("source", ["msqe", "task"])
@pytest.mark.parametrize("bits,narrow", [(1, True), (2, True), (3, True), (3, False), (8, True)])
def test_gradient_in_w_is_that_of_the_clipped_identity(bits, narrow, source):
    quantizer, scale = Uniform(bits, narrow=narrow, scale_from=source), 0.3
    low, high = quantizer.smallest_code, quantizer.largest_code
    expected = finite_difference(
        lambda w: np.sum(UPSTREAM * scale * np.clip(w / scale, low, high)), W
    )
    (gradient,) = gradients(lambda w: tf.reduce_sum(UPSTREAM * quantizer(w, with_scale(scale))), W)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert set(np.round(gradient / UPSTREAM, 4).ravel().tolist()) <= {0.0, 1.0}
    assert (0.0 in gradient) == (bits < 8)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_task_gradient_of_the_scale(bits, per_channel):
    quantizer = Uniform(bits, per_channel=per_channel, scale_from="task")
    scale = np.float32([[0.3, 0.2]] if per_channel else [[0.3]])
    n = quantizer.largest_code

    def surrogate(scale):  # what the rounding added, held fixed
        return np.sum(UPSTREAM * scale * (np.clip(W / scale, -n, n) + residual))

    residual = quantizer.encode(W, with_scale(scale))[0] - np.clip(W / scale, -n, n)
    expected = (
        finite_difference(surrogate, scale) / np.sqrt(W.size / scale.size * n) * scale * np.log(2)
    )
    (gradient,) = gradients(
        lambda log2: tf.reduce_sum(UPSTREAM * quantizer(tf.constant(W), {"log2_scale": log2})),
        np.log2(scale),
    )
    np.testing.assert_allclose(gradient, expected, rtol=2e-4)


def test_the_loss_does_not_reach_a_scale_that_fits_the_error():
    (gradient,) = gradients(
        lambda log2: tf.reduce_sum(Uniform(3)(tf.constant(W), {"log2_scale": log2})), [[-1.7]]
    )
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_error_gradient_of_the_scale(bits):
    quantizer, scale = Uniform(bits, per_channel=True), np.float32([[0.3, 0.2]])
    q = quantizer.encode(W, with_scale(scale))[0]
    expected = finite_difference(lambda s: np.sum((W - s * q) ** 2), scale) * scale * np.log(2)
    (gradient,) = gradients(
        lambda log2: tf.reduce_sum(
            (W - quantizer.nearest(tf.constant(W), {"log2_scale": log2})) ** 2
        ),
        np.log2(scale),
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_assigned_levels_are_constant_in_w_and_in_a_scale_of_the_loss():
    for quantizer in (Uniform(3), Uniform(3, scale_from="task")):
        in_w, in_scale = gradients(
            lambda w, s, q=quantizer: tf.reduce_sum(q.nearest(w, {"log2_scale": s})),
            W,
            np.float32([[-2.0]]),
        )
        assert in_w is None or not in_w.any()
        assert quantizer.fits_error == bool(in_scale is not None and in_scale.any())


def test_grid_codes_gradients():
    low, high, scale = -2.0, 1.0, np.float32(0.3)
    x = np.float32([-0.9, -0.55, -0.2, 0.1, 0.2, 0.5])
    codes = np.float32([-2, -2, -1, 0, 1, 1])
    np.testing.assert_array_equal(grid_codes(tf.constant(x), scale, low, high), codes)
    in_x, in_scale = gradients(
        lambda x, s: tf.reduce_sum(s * grid_codes(x, s, low, high)), x, scale
    )
    inside = np.float32([0, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(in_x.round(5), inside)
    np.testing.assert_allclose(in_scale, np.sum(codes - inside * x / scale), rtol=1e-5)


def test_sign_of_zero_is_plus():
    np.testing.assert_array_equal(sign_codes(np.float32([-0.0, 0.0, -1e-30, 2.0])), [1, 1, -1, 1])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("narrow", [True, False])
def test_config_round_trip(bits, narrow):
    for source in ("msqe", "task"):
        quantizer = Uniform(bits, per_channel=narrow, narrow=narrow, scale_from=source)
        twin = Uniform(**quantizer.get_config())
        assert twin == quantizer and hash(twin) == hash(quantizer) and repr(twin) == repr(quantizer)
        assert (
            keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(quantizer))
            == quantizer
        )
    assert Uniform(bits) != Uniform(bits, per_channel=True)
    assert eval(repr(Uniform(bits))) == Uniform(bits)


@pytest.mark.parametrize("bits", [0, 9, -1, 2.0, "4", None, True])
def test_bits_out_of_range(bits):
    with pytest.raises(
        ValueError, match=r"Uniform: `bits` must be a whole number of 1 to 8. Received: bits="
    ):
        Uniform(bits)


def test_unknown_source_of_the_scale():
    with pytest.raises(
        ValueError, match=r"Uniform: `scale_from` must be .* Received: scale_from='loss'"
    ):
        Uniform(4, scale_from="loss")


# The fit.


def squared(x, scale, low, high, axis=None):
    return np.sum((x - scale * np.clip(np.round(x / scale), low, high)) ** 2, axis=axis)


@settings(max_examples=40, deadline=None)
@given(
    x=arrays.arrays(np.float32, (40,), elements=st.floats(-100, 100, width=32)),
    bits=st.integers(2, 8),
    narrow=st.booleans(),
)
@example(x=np.float32([1e-3] * 39 + [50]), bits=2, narrow=True)
def test_more_alternations_never_raise_the_error(x, bits, narrow):
    quantizer = Uniform(bits, narrow=narrow)
    low, high = quantizer.smallest_code, quantizer.largest_code
    scales = [np.asarray(least_squares_scale(x, low, high, steps=steps)) for steps in range(5)]
    errors = [float(squared(x.astype(np.float64), s.astype(np.float64), low, high)) for s in scales]
    for before, after in itertools.pairwise(errors):
        assert after <= before * (1 + 1e-4) + 1e-6 * float(np.max(np.abs(x)) ** 2)
    assert all(np.isfinite(scales)) and min(scales) > 0


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("per_channel", [False, True])
def test_fit_beats_the_largest_magnitude(bits, per_channel):
    w = np.random.default_rng(bits).normal(size=(300, 4)).astype(np.float32) * np.float32(
        [0.1, 1, 3, 0.5]
    )
    quantizer = Uniform(bits, per_channel=per_channel)
    scale = np.exp2(np.asarray(quantizer.fit_state(w, (1,))["log2_scale"]))
    n = quantizer.largest_code
    naive = np.abs(w).max(0 if per_channel else None, keepdims=True) / n
    axis = 0 if per_channel else None
    assert np.all(squared(w, scale, -n, n, axis) < 0.95 * squared(w, naive, -n, n, axis))


def test_fit_finds_a_grid_that_fits():
    codes = np.random.default_rng(0).integers(-7, 8, (50, 3))
    scale = np.float32([[0.01, 0.5, 40.0]])
    fitted = np.exp2(
        np.asarray(
            Uniform(4, per_channel=True).fit_state((codes * scale).astype(np.float32), (1,))[
                "log2_scale"
            ]
        )
    )
    np.testing.assert_allclose(fitted, scale, rtol=1e-5)


def test_fit_of_one_bit_is_the_mean_magnitude():
    w = np.float32([[1, -2], [3, 4], [-5, 0]])
    np.testing.assert_allclose(
        Uniform(1).fit_state(w, (1,))["log2_scale"], np.log2([[15 / 6]]), rtol=1e-6
    )
    mask = np.array([[True, True], [False, True], [True, False]])
    np.testing.assert_allclose(
        Uniform(1, per_channel=True).fit_state(w, (1,), mask)["log2_scale"],
        np.log2([[3.0, 3.0]]),
        rtol=1e-6,
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_masked_weights_do_not_count(bits):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(64,)).astype(np.float32)
    mask = rng.random(64) < 0.5
    expected = Uniform(bits).fit_state(w[mask], ())["log2_scale"]
    spoiled = np.where(mask, w, 100.0).astype(np.float32)
    np.testing.assert_allclose(
        Uniform(bits).fit_state(spoiled, (), mask)["log2_scale"], expected, atol=1e-5
    )


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_a_channel_of_zeros_gets_scale_1(bits):
    w = np.float32([[0, 1], [0, -1]])
    np.testing.assert_allclose(
        Uniform(bits, per_channel=True).fit_state(w, (1,))["log2_scale"][0, 0], 0.0
    )


def test_a_channel_below_the_normal_floats_is_finite():
    w = np.float32([[1, 1e-40], [0.5, -3e-41]])
    quantizer = Uniform(4, per_channel=True)
    state = quantizer.fit_state(w, (1,))
    assert np.isfinite(state["log2_scale"]).all()
    assert np.isfinite(quantizer(w, state)).all()


def test_kernel_axes_of_the_scale():
    assert Uniform(4).state_shapes((3, 3, 2, 5), (3,)) == {"log2_scale": (1, 1, 1, 1)}
    assert Uniform(4, per_channel=True).state_shapes((3, 3, 2, 5), (3,)) == {
        "log2_scale": (1, 1, 1, 5)
    }
    assert Uniform(4, per_channel=True).state_shapes((3, 3, 2, 5), (2, 3)) == {
        "log2_scale": (1, 1, 2, 5)
    }
