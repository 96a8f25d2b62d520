"""The names by which a model's inputs and outputs go."""

from typing import Any

import keras

from tfqreg.layers import ActivationQuantizer


def inputs_of_graph(model: keras.Model) -> Any:
    """Returns the structure of a model's symbolic inputs; None for a model without a graph."""
    return getattr(_graph(model), "input", None)


def input_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's inputs in the model's order; none for a model without a graph.

    They are the keys of a dict of inputs, or those of `keras.Input(name=...)`.

    Example:
        >>> b, a = keras.Input((2,), name="b"), keras.Input((2,), name="a")
        >>> input_names(keras.Model([b, a], a + b)), input_names(keras.Model({"b": b, "a": a}, a))
        (['b', 'a'], ['a', 'b'])
    """
    inputs = inputs_of_graph(model)
    if inputs is None:
        return []
    return _keys(inputs) or [tensor.name for tensor in keras.tree.flatten(inputs)]


def output_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's outputs in the model's order.

    They are the keys of a dict of outputs, or the names of the layers that the outputs come from,
    in a quantized model as in the float model. A name that comes again gets a number.

    Example:
        >>> x = keras.Input((2,), name="x")
        >>> y, z = keras.layers.Dense(1, name="y")(x), keras.layers.Dense(1, name="z")(x)
        >>> output_names(keras.Model(x, [z, y])), output_names(keras.Model(x, {"a": z, "b": y}))
        (['z', 'y'], ['a', 'b'])
    """
    names: list[str] = []
    graph = _graph(model)
    for name in _keys(graph.output) or [_layer_of(tensor) for tensor in graph.outputs]:
        count, unique = 1, name
        while unique in names:
            unique, count = f"{name}_{count}", count + 1
        names.append(unique)
    return names


def _graph(model: keras.Model) -> Any:
    # A Sequential that was never called has its graph all the same.
    return model._functional if isinstance(model, keras.Sequential) else model


def _keys(structure: Any) -> list[str]:
    """Returns the keys of a dict of tensors, in the order in which Keras flattens it."""
    if not isinstance(structure, dict) or any(map(keras.tree.is_nested, structure.values())):
        return []
    return [str(key) for key in sorted(structure)]


def _layer_of(tensor: Any) -> str:
    """Returns the name of the layer that a tensor comes from in the model as it was written.

    `quantize` adds quantizers, and makes an activation and a separable convolution's second half
    layers of their own.
    """
    name, before = _producer(tensor)
    layer, further = _producer(before) if before is not None else ("", None)
    if name.startswith(f"{layer}_") and hasattr(keras.activations, name[len(layer) + 1 :]):
        name, before = layer, further
    base = name.removesuffix("_pointwise")
    if base != name and before is not None and _producer(before)[0] == f"{base}_depthwise":
        return base
    return name


def _producer(tensor: Any) -> tuple[str, Any]:
    """Returns the name of what makes a tensor, and its first input; quantizers are passed over."""
    while True:
        operation, index, _ = tensor._keras_history
        sources = operation._inbound_nodes[index].input_tensors
        if not isinstance(operation, ActivationQuantizer):
            return operation.name, sources[0] if sources else None
        tensor = sources[0]
