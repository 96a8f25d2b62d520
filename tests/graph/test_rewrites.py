"""Operations that become others: the model computes the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfqreg.graph.flat import flatten
from tfqreg.graph.patterns import canonical

CASES = {
    "sum": (lambda x: ops.sum(x, 2), ["Mean", "Rescaling"]),
    "sum, axis kept": (lambda x: ops.sum(x, (1, -1), keepdims=True), ["Mean", "Rescaling"]),
    "sum of all": (lambda x: ops.sum(x, (1, 2, 3)), ["Mean", "Rescaling", "Squeeze"]),
    "quotient": (lambda x: x / (1.5 + x), ["Add", "Reciprocal", "Multiply"]),
    "over a number": (lambda x: x / 3, ["TrueDivide"]),
    "number over it": (lambda x: 3 / (1 + x), ["Add", "TrueDivide"]),
    "over places": (
        lambda x: x / np.arange(1, 61, dtype=np.float32).reshape(3, 4, 5),
        ["Multiply"],
    ),
    "square": (lambda x: x**2, ["Square"]),
    "root": (lambda x: x**0.5, ["Sqrt"]),
    "stack": (
        lambda x: ops.stack([x, 2 * x], -1),
        ["Multiply", *["ExpandDims"] * 2, "Concatenate"],
    ),
    "tile": (lambda x: ops.tile(x, (2, 3, 1)), ["Concatenate", "Concatenate"]),
    "tile of many": (lambda x: ops.tile(x, (1, 1, 1, 11)), ["Concatenate", "Concatenate"]),
    "softmax": (lambda x: ops.softmax(x, 1), ["Permute", "Softmax", "Permute"]),
    "softmax of the last": (layers.Softmax(3), ["Softmax"]),
    "unit norm": (layers.UnitNormalization(2), ["Permute", "UnitNormalization", "Permute"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name):
    build, kinds = CASES[name]
    x = keras.Input((3, 4, 5))
    model = keras.Model(x, build(x))
    rewritten = canonical(model)
    found = [type(node.operation).__name__ for node in flatten(rewritten).nodes]
    assert sorted(found) == sorted(kinds)
    data = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    np.testing.assert_allclose(rewritten(data), model(data), rtol=1e-5, atol=1e-6)
    assert rewritten.output_shape == model.output_shape
