"""Functions of a single number: values, ends of their domains, and what is none."""

import keras
import numpy as np
import pytest
from keras import ops

from tfqreg.graph.functions import FUNCTIONS_OF_ONE, function_of_one

X = np.array([-2.0, 0.0, 0.25, 4.0])


def operation(build):
    return build(keras.Input((4,)))._keras_history.operation


@pytest.mark.parametrize("name", FUNCTIONS_OF_ONE)
def test_as_keras_computes_it(name):
    build = getattr(ops, name.lower())
    function = function_of_one(operation(build))
    assert function is not None
    x = np.float64([0.25, 1.0, 4.0])
    np.testing.assert_allclose(function(x), np.asarray(build(x.astype("float32"))), rtol=1e-5)


def test_outside_their_domain():
    with np.errstate(all="ignore"):
        found = {name: FUNCTIONS_OF_ONE[name](X)[:2].tolist() for name in FUNCTIONS_OF_ONE}
    assert found["Sqrt"] == [0.0, 0.0]
    assert found["Rsqrt"] == [np.inf, np.inf]
    assert found["Log"] == [-np.inf, -np.inf]
    assert found["Log1p"] == [-np.inf, 0.0]
    assert found["Reciprocal"] == [-0.5, np.inf]


@pytest.mark.parametrize(
    "build,expected",
    [
        (lambda x: x**3, [-8.0, 0.0, 0.015625, 64.0]),
        (lambda x: x**1.5, [0.0, 0.0, 0.125, 8.0]),
        (lambda x: 2.0**x, [0.25, 1.0, 2**0.25, 16.0]),
        (lambda x: 3 / x, [-1.5, np.inf, 12.0, 0.75]),
    ],
)
def test_with_a_number(build, expected):
    function = function_of_one(operation(build))
    assert function is not None
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(function(X), expected)


@pytest.mark.parametrize("build", [lambda x: x / 3, lambda x: x**x, lambda x: x + 1, ops.abs])
def test_what_is_none(build):
    assert function_of_one(operation(build)) is None
