"""Rewrites a float model's operations into ones that have an integer form.

The function computed stays the same.

silu(x)                        -> x * sigmoid(x)
relu6(x + 3) / 6               -> hard_sigmoid(x)
x * hard_sigmoid(x)            -> hard_silu(x)
a + b + c, average of several  -> additions of two, and a division
and what `tfqreg.graph.rewrites` lists.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.affine import affine_of
from tfqreg.graph.flat import FlatGraph, Node, clone, flatten, rebuild, set_weights_of
from tfqreg.graph.rewrites import rewritten
from tfqreg.graph.roles import Role, activation_name, function_name, role

CHAINED = (keras.layers.Add, keras.layers.Multiply)


def rewrite(operation: Any) -> Callable[..., Any] | None:
    """Returns what to call in place of an operation that is several in integers, or None."""
    if function_name(operation) == "silu":
        return _silu(operation.name)
    if isinstance(operation, keras.layers.Average):
        return _average(operation)
    if isinstance(operation, CHAINED) and len(_inputs(operation)) > 2:
        return _chain(type(operation), operation.name, len(_inputs(operation)))
    return rewritten(operation)


def _silu(name: str) -> Callable[..., Any]:
    sigmoid = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")
    multiply = keras.layers.Multiply(name=name)
    return lambda x, **_: multiply([x, sigmoid(x)])


def _inputs(layer: Any) -> list[Any]:
    return layer._inbound_nodes[0].input_tensors


def _chain(cls: type, name: str, count: int) -> Callable[..., Any]:
    steps = [cls(name=f"{name}_{i}") for i in range(1, count - 1)] + [cls(name=name)]

    def call(tensors: list[Any], **_: Any) -> Any:
        total = tensors[0]
        for step, tensor in zip(steps, tensors[1:], strict=True):
            total = step([total, tensor])
        return total

    return call


def _average(layer: Any) -> Callable[..., Any]:
    count = len(_inputs(layer))
    total = _chain(keras.layers.Add, f"{layer.name}_sum", count)
    division = keras.layers.Rescaling(1 / count, name=layer.name)
    return lambda tensors, **_: division(total(tensors))


def hard_functions(graph: FlatGraph) -> dict[int, Callable[..., Any]]:
    """Returns, by id, what to call in place of operations that spell out a hard sigmoid or swish.

    Keras and exporters write `x * relu6(x + 3) / 6` as four operations, TFLite has one for it.
    """
    replaced: dict[int, Callable[..., Any]] = {}
    matches: Counter[int] = Counter()
    sources: dict[int, Any] = {}  # the input of every hard sigmoid, by the id of its node
    for node in graph.nodes:
        parts = _hard_sigmoid(node)
        if parts is not None:
            matches.update(id(part.operation) for part in parts)
            replaced |= dict.fromkeys((id(part.operation) for part in parts[:-1]), _first_tensor)
            replaced[id(node.operation)] = _activation("hard_sigmoid", node)
            sources[id(node)] = parts[0].inputs[0]
        elif function_name(node.operation) == "hard_sigmoid":
            matches[id(node.operation)] += 1
            sources[id(node)] = node.inputs[0]
    for node in graph.nodes:
        if type(node.operation).__name__ != "Multiply" or len(node.inputs) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            if (
                gate.producer is not None
                and _only(gate) is node
                and sources.get(id(gate.producer)) is x
            ):
                matches[id(node.operation)] += 1
                replaced[id(gate.producer.operation)] = _first_tensor
                replaced[id(node.operation)] = _activation("hard_silu", node)
    calls = Counter(id(node.operation) for node in graph.nodes)
    # A layer that is called in several places may be part of the pattern in one of them alone.
    return replaced if all(calls[key] == matches[key] for key in replaced) else {}


def _hard_sigmoid(node: Node) -> tuple[Node, Node, Node] | None:
    """Returns the three nodes of `relu6(x + 3) / 6` that end in a node, or None."""
    relu = node.inputs[0].producer if node.inputs else None
    if (
        not _computes(node, 1 / 6, 0.0)
        or relu is None
        or not _is_relu6(relu)
        or _only(relu.outputs[0]) is not node
    ):
        return None
    shift = relu.inputs[0].producer
    if shift is None or not _computes(shift, 1.0, 3.0) or _only(shift.outputs[0]) is not relu:
        return None
    return shift, relu, node


def _computes(node: Node, gain: float, offset: float) -> bool:
    found = affine_of(node.operation)
    return found is not None and all(
        np.allclose(x, y, rtol=1e-6) for x, y in zip(found, (gain, offset), strict=True)
    )


def _is_relu6(node: Node) -> bool:
    name = function_name(node.operation)
    return name == "relu6" or (name == "relu" and getattr(node.operation, "max_value", None) == 6)


def _only(edge: Any) -> Node | None:
    return edge.consumers[0] if len(edge.consumers) == 1 and not edge.is_output else None


def _first_tensor(*args: Any, **kwargs: Any) -> Any:
    tensors = keras.tree.flatten((args, kwargs))
    return next(x for x in tensors if isinstance(x, keras.KerasTensor))


def _activation(function: str, node: Node) -> Callable[..., Any]:
    layer = keras.layers.Activation(function, name=node.operation.name)
    return lambda *args, **kwargs: layer(_first_tensor(*args, **kwargs))


def opened(model: keras.Model) -> keras.Model:
    """Returns a model with the operations of its Lambda layers in their place.

    That is the model itself if it has none, and a copy otherwise. A Lambda whose function takes no
    symbolic tensor stays.

    Example:
        >>> rectify = keras.layers.Lambda(lambda x: abs(x))
        >>> model = opened(keras.Sequential([keras.Input((4,)), rectify]))
        >>> [type(node.operation).__name__ for node in flatten(model).nodes]
        ['Absolute']
    """
    if not any(isinstance(n.operation, keras.layers.Lambda) for n in flatten(model).nodes):
        return model
    copies: list[tuple[Any, Any]] = []

    def replace(path: str, operation: Any) -> Any:
        if isinstance(operation, keras.layers.Lambda):
            return _of_lambda(operation)
        copies.append((operation, clone(operation)))
        return copies[-1][1]

    copy = rebuild(model, replace)
    set_weights_of(copies)
    return copy


def _of_lambda(layer: Any) -> Callable[..., Any]:
    def call(x: Any, **_: Any) -> Any:
        try:
            return layer.function(x, **layer.arguments)
        except (AttributeError, TypeError, ValueError):
            return layer(x)

    return call


def canonical(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in which every operation has an integer form of its own.

    Separable convolutions are two convolutions, activations that no kernel fuses are layers, and
    what the module's table lists is rewritten.

    Example:
        >>> dense = keras.layers.Dense(2, activation="silu", name="fc")
        >>> model = canonical(keras.Sequential([keras.Input((4,)), dense]))
        >>> [node.path for node in flatten(model).nodes]
        ['fc', 'fc_silu_sigmoid', 'fc_silu']
    """
    model = opened(model)
    hard = hard_functions(flatten(model))
    copies: list[tuple[Any, Any]] = []
    separable: list[tuple[Any, Any, Any]] = []

    def replace(path: str, operation: Any) -> Any:
        if isinstance(operation, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
            depthwise, pointwise = _split_separable(operation)
            separable.append((operation, depthwise, pointwise))
            last = _split_activation(pointwise)
            return lambda x, **_: last(depthwise(x))
        rewritten = hard.get(id(operation)) or rewrite(operation)
        if rewritten is not None:
            return rewritten
        new = clone(operation)
        copies.append((operation, new))
        return _split_activation(new) if role(operation) == Role.WEIGHTED_SUM else new

    canonical = rebuild(model, replace)
    set_weights_of(copies)
    for old, depthwise, pointwise in separable:
        depthwise.set_weights([ops.convert_to_numpy(old.depthwise_kernel)])
        bias = [ops.convert_to_numpy(old.bias)] if old.use_bias else []
        pointwise.set_weights([ops.convert_to_numpy(old.pointwise_kernel), *bias])
    return canonical


def _split_activation(layer: Any) -> Callable[..., Any]:
    name = activation_name(layer)
    if name in ("linear", "relu", "relu6"):
        return layer
    activation = keras.layers.Activation(layer.activation, name=f"{layer.name}_{name}")
    layer.activation = keras.activations.linear
    function = rewrite(activation) or activation
    return lambda x, **_: function(layer(x))


def _split_separable(layer: Any) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    row = isinstance(layer, keras.layers.SeparableConv1D)
    depthwise_class = keras.layers.DepthwiseConv1D if row else keras.layers.DepthwiseConv2D
    depthwise = depthwise_class(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        trainable=layer.trainable,
        name=f"{layer.name}_depthwise",
    )
    pointwise_class = keras.layers.Conv1D if row else keras.layers.Conv2D
    pointwise = pointwise_class(
        layer.filters,
        1,
        data_format=layer.data_format,
        use_bias=layer.use_bias,
        activation=layer.activation,
        kernel_regularizer=layer.pointwise_regularizer,
        kernel_constraint=layer.pointwise_constraint,
        bias_constraint=layer.bias_constraint,
        bias_regularizer=layer.bias_regularizer,
        activity_regularizer=layer.activity_regularizer,
        trainable=layer.trainable,
        name=f"{layer.name}_pointwise",
    )
    return depthwise, pointwise
