"""Lowers a quantized Keras model to the integer graph.

Every tensor between operators is int8, on the grid of the activation quantizer that follows it. A convolution, with
the BatchNorm and ReLU behind it, stays open until that quantizer gives it an output grid; then it becomes one operator.
Weight codes go in as they are: BatchNorm folds into the scales and the int32 bias.
"""

from typing import Any

import keras

from tfqreg.graph import Edge, Node, flatten
from tfqreg.layers import QuantizedActivation
from tfqreg.layers.quantized import kernel_names
from tfqreg.placement import INFERENCE_IDENTITY

from .build import Builder, grid_of, static_shape
from .ir import Graph
from .lowering import LOWERINGS


def lower(model: keras.Model, float_io: bool = False) -> Graph:
    """Returns the integer graph of a quantized model.

    Args:
        model: what `tfqreg.quantize` returned, trained or calibrated; or any Functional or Sequential model of wrapped
            layers with an activation quantizer wherever a tensor arises.
        float_io: float32 inputs and outputs, with a QUANTIZE and a DEQUANTIZE at the ends; int8 by default.

    Raises:
        TypeError: for a subclassed model.
        ValueError: for a layer that has no integer form or is not quantized, and for scales that are not set.
    """
    flat, builder = flatten(model), Builder()
    for node in flat.nodes:
        if type(node.operation).__name__ not in LOWERINGS:
            raise ValueError(_unsupported(node))
    for edge in flat.inputs:
        _input(builder, edge, float_io)
    for node in flat.nodes:
        builder.values[node.outputs[0]] = LOWERINGS[type(node.operation).__name__](builder, node)
    for edge in flat.outputs:
        _output(builder, edge, float_io)
    return builder.graph


def _input(builder: Builder, edge: Edge, float_io: bool) -> None:
    name = edge.keras_tensor.name
    first = _first_operations(edge)
    quantizer = next(iter(first), None)
    if len(first) != 1 or not isinstance(quantizer, QuantizedActivation):
        raise ValueError(
            f"{name}: a model input needs one QuantizedActivation right behind it. tfqreg.quantize(model) places it. "
            f"Received: {', '.join(sorted(operation.name for operation in first)) or 'nothing'}"
        )
    shape, grid = static_shape(edge, name), grid_of(quantizer)
    if float_io:
        source = builder.tensor(name, shape, None, "float32")
        tensor = builder.emit("QUANTIZE", (source,), builder.tensor(f"{name}_int8", shape, grid))
    else:
        source = tensor = builder.tensor(name, shape, grid)
    builder.graph.inputs.append(source)
    builder.values[edge] = tensor


def _first_operations(edge: Edge) -> set[Any]:
    """Returns the operations an input meets, layers that only training uses left out."""
    found = set()
    for node in edge.consumers:
        ignored = type(node.operation).__name__ in INFERENCE_IDENTITY
        found |= _first_operations(node.outputs[0]) if ignored else {node.operation}
    return found


def _output(builder: Builder, edge: Edge, float_io: bool) -> None:
    name = builder.integer(edge, "the model's output")
    if name in builder.graph.inputs or name in builder.graph.outputs:
        raise ValueError(f"{name}: one tensor is two ends of the model. Put an operation between them.")
    if float_io:
        target = builder.tensor(f"{name}_float", builder.graph.tensors[name].shape, None, "float32")
        name = builder.emit("DEQUANTIZE", (name,), target)
    builder.graph.outputs.append(name)


def _unsupported(node: Node) -> str:
    layer = node.operation
    name = type(layer).__name__
    if isinstance(layer, keras.layers.Layer) and kernel_names(layer):
        return (
            f"{node.path}: {name} holds float weights on the way to integers. Give it a rule without skip in "
            "tfqreg.quantize(model, rules), or wrap it in tfqreg.Quantized."
        )
    return (
        f"{node.path}: {name} has no integer form. Replace it by one of {', '.join(sorted(LOWERINGS))}, or leave it "
        "outside the exported model."
    )
