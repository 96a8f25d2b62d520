"""What counts as `gain * x + offset` with constants."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfqreg.graph.affine import affine_of, is_scale
from tfqreg.graph.flat import flatten

VECTOR = np.float32([1, -2, 3])
FORMS = {
    "x + c": (lambda x: x + 3.0, 1, 3),
    "c + x": (lambda x: 3.0 + x, 1, 3),
    "x - c": (lambda x: x - 3.0, 1, -3),
    "c - x": (lambda x: 3.0 - x, -1, 3),
    "x * c": (lambda x: x * VECTOR, VECTOR, 0),
    "x / c": (lambda x: x / 4.0, 0.25, 0),
    "-x": (lambda x: -x, -1, 0),
    "a row of channels": (lambda x: x + VECTOR.reshape(1, 1, 1, 3), 1, VECTOR),
    "rescaling": (layers.Rescaling([1.0, 2.0, 4.0], offset=-1.0), [1, 2, 4], -1),
    "normalization": (
        layers.Normalization(mean=[1, 2, 3], variance=[1, 4, 16]),
        [1, 0.5, 0.25],
        [-1, -1, -0.75],
    ),
    "its inverse": (
        layers.Normalization(mean=[1, 2, 3], variance=[1, 4, 16], invert=True),
        [1, 2, 4],
        [1, 2, 3],
    ),
}


def operation(function):
    x = keras.Input((4, 4, 3))
    (node,) = flatten(keras.Model(x, function(x))).nodes
    return node.operation


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    function, gain, offset = FORMS[name]
    found = affine_of(operation(function))
    np.testing.assert_allclose(found[0], gain)
    np.testing.assert_allclose(found[1], offset)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(function(x), found[0] * x + found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + x,
        lambda x: 2.0 / x,
        lambda x: x * np.arange(4, dtype="f").reshape(4, 1, 1),
        lambda x: x + np.inf,
        ops.relu,
    ],
    ids=["two tensors", "reciprocal", "another axis", "infinity", "relu"],
)
def test_others(function):
    assert affine_of(operation(function)) is None


def test_one_positive_gain_alone_is_a_scale():
    assert is_scale(layers.Rescaling(0.5))
    assert is_scale(layers.Rescaling([2.0, 2.0]))
    for other in (
        layers.Rescaling(0.5, 1),
        layers.Rescaling(-1.0),
        layers.Rescaling([1.0, 2.0]),
        layers.ReLU(),
    ):
        assert not is_scale(other)
