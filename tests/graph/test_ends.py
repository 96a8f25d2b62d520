"""The names of inputs and outputs: Keras' own, before and after `quantize`."""

import keras
import pytest

import tfqreg as tq
from tfqreg.graph.ends import input_names, output_names


def ends() -> tuple:
    b, a = keras.Input((8,), name="b"), keras.Input((5,), name="a")
    both = keras.layers.Concatenate()([b, a])
    scores = keras.layers.Dense(3, activation="softmax", name="cls")(both)
    return b, a, scores, keras.layers.Dense(2, name="box")(b)


@pytest.mark.parametrize("wrap", [lambda m: m, tq.quantize])
def test_lists_keep_their_order(wrap):
    b, a, scores, boxes = ends()
    model = wrap(keras.Model([b, a], [scores, boxes]))
    assert (input_names(model), output_names(model)) == (["b", "a"], ["cls", "box"])


@pytest.mark.parametrize("wrap", [lambda m: m, tq.quantize])
def test_keys_of_dicts(wrap):
    b, a, scores, boxes = ends()
    model = wrap(keras.Model({"b": b, "a": a}, {"scores": scores, "areas": boxes}))
    assert [tensor.name for tensor in model.inputs] == ["a", "b"]
    assert (input_names(model), output_names(model)) == (["a", "b"], ["areas", "scores"])


def test_a_layer_called_twice_gives_two_names():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    dense = keras.layers.Dense(2, name="d")
    model = tq.quantize(keras.Model([x, y], [dense(x), dense(y)]))
    assert output_names(model) == ["d", "d_1"]


def test_a_sequential_model():
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="d")])
    assert (input_names(tq.quantize(model)), output_names(tq.quantize(model))) == (["x"], ["d"])


@pytest.mark.parametrize("activation", ["sigmoid", "silu", "relu", "hard_silu"])
def test_what_quantize_splits_goes_by_the_layers_name(activation):
    x = keras.Input((8, 8, 3))
    y = keras.layers.SeparableConv2D(4, 3, activation=activation, name="sep")(x)
    z = keras.layers.Activation(activation, name="act")(keras.layers.Conv2D(2, 3, name="c")(x))
    model = keras.Model(x, [y, z])
    assert output_names(tq.quantize(model)) == output_names(model) == ["sep", "act"]
