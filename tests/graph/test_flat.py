"""A Keras graph as a flat list, and built anew."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfqreg as tq
from tests.tiny_nets import conv_net
from tfqreg.graph.flat import clone, flatten, rebuild, set_weights_of


def two_towers() -> keras.Model:
    """One tower called twice, a model in a model in a model, operators, two inputs by name, two
    outputs.
    """
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    deep = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")], name="deep")
    tower = keras.Model(x, deep(x) * 2.0, name="tower")
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((4,), name="right")}
    both = tower(inputs["left"]) + tower(inputs["right"])
    outputs = {
        "sum": ops.mean(both, axis=-1),
        "head": layers.Dense(2, name="head")(ops.concatenate([both, 1.0 - both])),
    }
    return keras.Model(inputs, outputs, name="two_towers")


def copy(model: keras.Model) -> keras.Model:
    pairs = []

    def replace(path, operation):
        pairs.append((operation, clone(operation)))
        return pairs[-1][1]

    new = rebuild(model, replace)
    set_weights_of(pairs)
    return new


def test_paths():
    paths = [node.path for node in flatten(two_towers()).nodes]
    assert [path.split("/")[-1].rstrip("_0123456789") for path in paths if "tower/" in path] == [
        "fc",
        "multiply",
    ] * 2
    assert paths.count("tower/deep/fc") == 2
    assert paths[-1] == "head" or "head" in paths


def test_edges():
    graph = flatten(conv_net())
    by_path = {node.path: node for node in graph.nodes}
    assert [edge.producer for edge in graph.inputs] == [None]
    assert graph.inputs[0].consumers == [by_path["stem"]] and graph.inputs[0].shape == (
        None,
        8,
        8,
        2,
    )
    pooled = by_path["pool"].outputs[0]
    assert pooled.producer is by_path["pool"]
    assert {node.path for node in pooled.consumers} == {"depthwise", "residual"}
    assert graph.outputs == by_path["head"].outputs and graph.outputs[0].is_output
    assert not pooled.is_output


def test_arguments_of_a_call():
    x = keras.Input((4, 6))
    (node,) = flatten(keras.Model(x, x[:, 1:3])).nodes
    assert node.args[1:] == ((slice(None), slice(1, 3)),)
    assert node.args[0] is x
    (node,) = flatten(
        keras.Model(x, keras.ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=2.0))
    ).nodes
    assert node.kwargs == {"constant_values": 2.0}


def test_nested_edges_join_the_models():
    graph = flatten(two_towers())
    first, second = (node for node in graph.nodes if node.path == "tower/deep/fc")
    assert first.inputs == [graph.inputs[0]] and second.inputs == [graph.inputs[1]]
    assert first.operation is second.operation
    add = next(node for node in graph.nodes if type(node.operation).__name__ == "Add")
    assert [type(edge.producer.operation).__name__ for edge in add.inputs] == [
        "Multiply",
        "Multiply",
    ]


@pytest.mark.parametrize("make", [two_towers, conv_net])
def test_rebuilt_model_computes_the_same(make):
    model = make()
    new = copy(model)
    rng = np.random.default_rng(0)
    x = keras.tree.map_structure(
        lambda i: rng.normal(size=(3, *i.shape[1:])).astype("float32"), model.input
    )
    keras.tree.map_structure(np.testing.assert_array_equal, new(x), model(x))
    assert new.name == model.name
    assert len(new.weights) == len(model.weights)
    assert not {id(v) for v in new.weights} & {id(v) for v in model.weights}


def test_shared_operations_stay_shared():
    new = copy(two_towers())
    towers = [layer for layer in new.layers if layer.name == "tower"]
    assert len(towers) == 1 and len(towers[0]._inbound_nodes) >= 2


def test_a_sequential_that_was_called_has_a_graph():
    model = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    with pytest.raises(
        ValueError, match=rf"{model.name}: the input shape is unknown. Start the Sequential with"
    ):
        flatten(model)
    model(np.ones((1, 4), np.float32))
    assert [node.path for node in flatten(model).nodes] == ["a", "b"]


def test_a_subclassed_model_has_none():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(
        TypeError, match=r"mine: Mine is a subclassed model .*tfqreg.Quantized\(keras.layers.Conv2D"
    ):
        flatten(Mine(name="mine"))
    inputs = keras.Input((4,))
    with pytest.raises(TypeError, match="inner: Mine is a subclassed model"):
        flatten(keras.Model(inputs, Mine(name="inner")(inputs)))
    with pytest.raises(TypeError, match=r"must be a keras\.Model of Keras 3"):
        flatten(layers.Dense(3))


class Forgetful(keras.layers.Layer):
    """A layer whose configuration lacks an argument of the constructor."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        return x

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    "layer,words",
    [
        (
            keras.layers.Lambda(tf.math.sinh, name="twice"),
            r"twice: a Lambda cannot be copied. Write its function in keras.ops, or use a layer",
        ),
        (
            Forgetful(2, name="scaled"),
            r"scaled: a Forgetful cannot be copied. Give it a `get_config`.*Received: ",
        ),
    ],
)
def test_layers_that_cannot_be_copied(layer, words):
    with pytest.raises(ValueError, match=words):
        tq.quantize(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), layer]))
