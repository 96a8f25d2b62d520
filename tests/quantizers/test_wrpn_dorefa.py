"""WRPN and DoReFa: levels, equality of their faces, gradients, their position on the grid."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_nets import finite_difference, gradients
from tfqreg import WRPN, DoReFa

W = np.random.default_rng(3).normal(scale=0.4, size=(50, 4)).astype(np.float32)


def unit(bits: int, rank: int = 2) -> dict[str, np.ndarray]:
    return {"scale": np.full((1,) * rank, 1 / (2 ** (bits - 1) - 1), np.float32)}


def odd(bits: int, rank: int = 2) -> dict[str, np.ndarray]:
    return {"scale": np.full((1,) * rank, 1 / (2**bits - 1), np.float32)}


@pytest.mark.parametrize("bits", range(2, 9))
def test_wrpn_levels(bits):
    n = 2 ** (bits - 1) - 1
    w = np.linspace(-1.5, 1.5, 6001, dtype=np.float32)
    codes, params = WRPN(bits).encode(w, unit(bits, 1))
    assert sorted(set(codes.tolist())) == list(range(-n, n + 1))
    assert params["bits"] == bits
    np.testing.assert_array_equal(params["scale"], np.float32([1 / n]))


@pytest.mark.parametrize("bits", range(1, 8))
def test_dorefa_levels_are_odd(bits):
    n = 2**bits - 1
    w = np.linspace(-4, 4, 20001, dtype=np.float32)
    codes, params = DoReFa(bits).encode(w, odd(bits, 1))
    assert sorted(set(codes.tolist())) == list(range(-n, n + 1, 2))
    assert params["bits"] == bits + 1  # the width that holds them
    np.testing.assert_allclose(DoReFa(bits)(tf.constant(w), odd(bits, 1)), codes / n, atol=1e-7)


def test_dorefa_by_its_equation():
    t = np.tanh(W.astype(np.float64))
    expected = 2 * np.round((t / np.abs(t).max() / 2 + 0.5) * 7) / 7 - 1
    np.testing.assert_allclose(DoReFa(3)(tf.constant(W), odd(3)), expected, atol=1e-6)


@pytest.mark.parametrize("bits", range(2, 9))
def test_wrpn_three_faces(bits):
    quantizer = WRPN(bits)
    state = quantizer.fit_state(W, (1,))
    assert state["scale"].numpy().item() == np.abs(W).max() / np.float32(quantizer.largest_code)
    q = quantizer(tf.constant(W), state)
    np.testing.assert_array_equal(q, quantizer.decode(*quantizer.encode(W, state)))
    compiled = tf.function(lambda w, scale: quantizer(w, {"scale": scale}))
    np.testing.assert_array_equal(compiled(W, state["scale"]), q)
    np.testing.assert_array_equal(quantizer(q, state), q)


@pytest.mark.parametrize("bits", range(1, 8))
def test_dorefa_three_faces(bits):
    quantizer = DoReFa(bits)
    state = quantizer.fit_state(W, (1,))
    q = quantizer(tf.constant(W), state)
    assert np.abs(q).max() == pytest.approx(np.abs(W).max(), rel=1e-6)
    np.testing.assert_array_equal(q, quantizer.decode(*quantizer.encode(W, state)))
    compiled = tf.function(lambda w, scale: quantizer(w, {"scale": scale}))
    np.testing.assert_array_equal(compiled(W, state["scale"]), q)
    assert DoReFa(bits, normalize=False).fit_state(W, (1,))["scale"].numpy() == odd(bits)["scale"]


def test_wrpn_range_leaves_masked_weights_out():
    w, mask = np.float32([[9.0, -7.0]]), np.array([[False, True]])
    assert WRPN(4).fit_state(w, (1,), mask)["scale"].numpy().item() == 1.0
    assert WRPN(2, normalize=False).fit_state(W, (1,))["scale"].numpy().item() == 1.0


def test_wrpn_gradient_stops_outside_its_range():
    w = np.float32([[-1.5, -0.5], [0.2, 1.01]])
    upstream = np.float32([[1, 2], [3, 4]])
    (in_w,) = gradients(lambda w: tf.reduce_sum(WRPN(3)(w, unit(3)) * upstream), w)
    np.testing.assert_array_equal(in_w, [[0, 2], [3, 0]])


def test_dorefa_gradient_is_that_of_the_tanh_and_its_maximum():
    upstream = np.random.default_rng(1).normal(size=W.shape)

    def surrogate(w):
        t = np.tanh(w)
        return t / np.abs(t).max() * upstream

    (in_w,) = gradients(
        lambda w: tf.reduce_sum(DoReFa(3)(w, odd(3)) * upstream.astype(np.float32)), W
    )
    np.testing.assert_allclose(in_w, finite_difference(surrogate, W), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("quantizer", [WRPN(3), WRPN(8), DoReFa(1), DoReFa(4)], ids=repr)
def test_levels_are_the_whole_positions(quantizer):
    state = quantizer.fit_state(W, (1,))
    positions = np.asarray(quantizer.positions(tf.constant(W), state), np.float64)
    codes, _ = quantizer.encode(W, state)
    step = 2 if isinstance(quantizer, DoReFa) else 1
    offset = quantizer.largest_code if isinstance(quantizer, DoReFa) else 0
    nearest = (codes.astype(int) + offset) // step
    assert np.abs(positions - nearest).max() <= 0.5 + 1e-5


@pytest.mark.parametrize(
    "cls,bits", [(WRPN, 1), (WRPN, 9), (DoReFa, 0), (DoReFa, 8), (DoReFa, 2.0)]
)
def test_bits_out_of_range(cls, bits):
    with pytest.raises(
        ValueError, match=f"{cls.__name__}: `bits` must be a whole number.*Received: bits={bits}"
    ):
        cls(bits)
