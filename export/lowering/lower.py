"""Lowers a quantized Keras model to the integer graph.

Every tensor between operators is int8, on the grid of the activation quantizer that follows it. A
convolution, with the BatchNorm and ReLU after it, stays open until that quantizer gives it an
output grid; then it becomes one operator. Weight codes go in as they are: BatchNorm folds into the
scales and the int32 bias.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.ends import input_names, output_names
from tfqreg.graph.flat import Edge, FlatGraph, Node, flatten
from tfqreg.graph.roles import INFERENCE_IDENTITY
from tfqreg.layers import ActivationQuantizer, Quantized
from tfqreg.layers.quantized import kernel_names
from tfqreg.layers.queries import activation_layers, quantized_layers

from ..flatbuffer.read import PRODUCTS
from ..ir import Graph
from . import LOWERINGS
from .affine import with_gain_ahead
from .builder import Builder, Open, grid_of, used
from .shapes import static_shape

ALL_ZEROS = "the kernel is all zeros, the layer adds nothing to its bias"


def lower(model: keras.Model, float_io: bool = False, scale_dtype: str = "float32") -> Graph:
    """Returns the integer graph of a quantized model.

    Args:
        model: what `tfqreg.quantize` returned, trained or calibrated; or any Functional or
            Sequential model of wrapped layers with an activation quantizer wherever a tensor
            arises.
        float_io: float32 inputs and outputs, with a QUANTIZE and a DEQUANTIZE at the ends; int8 by
            default.
        scale_dtype: "bfloat16" rounds the scales of weights to it, "float32", the default, does
            not.

    Raises:
        ModelTypeError: for a subclassed model.
        ModelError: for a layer that has no integer form or is not quantized, and for scales that
            are not set.

    Example:
        >>> [op.kind for op in lower(model).ops]
        ['CONV_2D', 'RESHAPE', 'FULLY_CONNECTED', 'FULLY_CONNECTED']
    """
    graph, problems = lower_in_part(model, float_io, scale_dtype)
    if problems:
        raise problems[0]
    graph = used(graph)
    for name in zero_kernels(graph):
        warnings.warn(f"{name}: {ALL_ZEROS}", stacklevel=2)
    return graph


def zero_kernels(graph: Graph) -> list[str]:
    """Returns the names of the kernels that hold nothing but zeros.

    Example:
        >>> zero_kernels(lower(model))
        []
    """
    names = dict.fromkeys(op.inputs[1] for op in graph.ops if op.kind in PRODUCTS)
    return [name for name in names if not np.any(np.asarray(graph.tensors[name].data))]


def lower_with_places(model: keras.Model) -> tuple[Graph, list[tuple[str, str]]]:
    """Returns the integer graph, and for each activation quantizer its path and its tensor.

    The quantizers come in the order in which the model calls them.

    Args:
        model: as `lower`.

    Raises:
        ModelTypeError, ModelError: as `lower`.
    """
    builder, flat, problems = _lowered(model, False, "float32")
    if problems:
        raise problems[0]
    graph = used(builder.graph)
    places = [
        (node.path, value)
        for node in flat.nodes
        if isinstance(node.operation, ActivationQuantizer)
        and isinstance(value := builder.values.get(node.outputs[0]), str)
    ]
    return graph, [(path, name) for path, name in places if name in graph.tensors]


def lower_in_part(
    model: keras.Model, float_io: bool = False, scale_dtype: str = "float32"
) -> tuple[Graph, list[ValueError]]:
    """Returns the integer graph of what can be lowered, and an error for everything that cannot.

    What follows a node that fails is not lowered, up to the next activation quantizer.

    Args:
        model, float_io, scale_dtype: as `lower`.

    Raises:
        ModelError: for a model without a graph: subclassed, or of unknown input shape.
    """
    builder, _, problems = _lowered(model, float_io, scale_dtype)
    return builder.graph, problems


def _lowered(
    model: keras.Model, float_io: bool, scale_dtype: str
) -> tuple[Builder, FlatGraph, list[ValueError]]:
    flat, builder = flatten(model), Builder(scale_dtype)
    problems: list[ValueError] = [
        unsupported_error(node) for node in flat.nodes if not is_supported(node)
    ]
    if not (quantized_layers(model) or activation_layers(model)):
        return builder, flat, [*problems, _calibrate_first(model)]
    problems += [
        _float_weights(node) for node in flat.nodes if is_supported(node) and not _is_lowered(node)
    ]
    problems += _shared_weights(flat)
    for edge in flat.inputs:
        if all(is_supported(node) for node in edge.consumers):
            _attempt(lambda edge=edge: _input(builder, edge, float_io), problems)
    for node in flat.nodes:
        if not _is_lowered(node):
            continue
        if all(edge in builder.values for edge in node.inputs):
            _attempt(lambda node=node: _node(builder, node), problems)
        elif isinstance(node.operation, ActivationQuantizer):
            _attempt(lambda node=node: _resume(builder, node), [])
    for edge in flat.outputs:
        if edge in builder.values:
            _attempt(lambda edge=edge: _output(builder, edge, float_io), problems)
    builder.graph.input_names = input_names(model)
    builder.graph.output_names = output_names(model)
    return builder, flat, problems


def _attempt(step: Callable[[], None], problems: list[ValueError]) -> None:
    try:
        step()
    except ValueError as error:
        # A layer that is called twice fails twice.
        if error.args not in [known.args for known in problems]:
            problems.append(error)


def _node(builder: Builder, node: Node) -> None:
    values = with_gain_ahead(LOWERINGS[type(node.operation).__name__], builder, node)
    builder.values.update(
        zip(node.outputs, values if isinstance(values, list) else [values], strict=True)
    )


def _resume(builder: Builder, node: Node) -> None:
    """Puts a tensor in place of an operator that failed, so that what follows is lowered too."""
    shape = static_shape(node.outputs[0], node.path)
    builder.values[node.outputs[0]] = builder.tensor(node.path, shape, grid_of(node.operation))


def _input(builder: Builder, edge: Edge, float_io: bool) -> None:
    name = edge.keras_tensor.name
    first = _first_operations(edge)
    quantizer = next(iter(first), None)
    if len(first) != 1 or not isinstance(quantizer, ActivationQuantizer):
        raise ModelError(
            name,
            "a model input needs one QuantizedActivation right after it",
            "tfqreg.quantize(model) places it",
            ", ".join(sorted(operation.name for operation in first)) or "nothing",
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
    name = builder.values[edge]
    if isinstance(name, Open) or builder.graph.tensors[name].dtype == "int8":
        name = builder.integer(edge, "the model's output")
    if name in builder.graph.inputs or name in builder.graph.outputs:
        raise ModelError(
            name, "one tensor is two ends of the model", "Put an operation between them"
        )
    if float_io and builder.graph.tensors[name].dtype == "int8":
        target = builder.tensor(f"{name}_float", builder.graph.tensors[name].shape, None, "float32")
        name = builder.emit("DEQUANTIZE", (name,), target)
    builder.graph.outputs.append(name)


def _is_lowered(node: Node) -> bool:
    return type(node.operation).__name__ in LOWERINGS


def is_supported(node: Node) -> bool:
    """Returns whether a layer has an integer form, wrapped if it has a kernel."""
    layer = node.operation
    return _is_lowered(node) or (
        isinstance(layer, keras.layers.Layer) and bool(kernel_names(layer))
    )


def unsupported_error(node: Node) -> ModelError:
    """Returns the error for a layer that no lowering function takes."""
    name = type(node.operation).__name__
    return ModelError(node.path, f"{name} has no integer form", _remedy(node.operation), name)


def _remedy(operation: Any) -> str:
    """Returns what to do about an operation without an integer form."""
    name, module = type(operation).__name__, type(operation).__module__
    outside = "leave it outside the exported model"
    if name == "Lambda":
        return "Write what it computes with keras.ops or layers of Keras, on symbolic tensors"
    if not module.startswith(("keras.", "tfqreg.")):
        return (
            "Apply the layers and keras.ops of its `call` to the model's symbolic tensors, each "
            f"an operation of the model, or {outside}"
        )
    for part, instead in _INSTEAD.items():
        if part in f"{module}.{name}".lower():
            return f"{instead}, or {outside}"
    return f"Use layers that have one, or {outside}"


# What does the work of layers without an integer form, by a part of their module's or class's name.
_INSTEAD = {
    "normalization": "Use BatchNormalization",
    "rnn": "Use causal or dilated Conv1D in its place",
    "attention": "Use convolutions or Dense in its place",
    "embedding": "Look the vectors up before the model and give it those",
    "preprocessing": "Prepare the data before the model",
    "activation": "Use relu, hard_swish or sigmoid",
    "conv3d": "Use Conv2D on slices",
    "pooling": "Use a pooling in two dimensions",
}


def _float_weights(node: Node) -> ModelError:
    return ModelError(
        node.path,
        f"{type(node.operation).__name__} holds float weights on the way to integers",
        "Give it a rule without skip in tfqreg.quantize(model, rules), or wrap it in "
        "tfqreg.Quantized",
    )


def _calibrate_first(model: keras.Model) -> ModelError:
    return ModelError(
        model.name,
        "the model has no quantizers",
        "Call q = tfqreg.quantize(model), then train q or call tfqreg.calibrate(q, data), "
        "and export q",
        f"{type(model).__name__} with float layers",
    )


def _shared_weights(flat: FlatGraph) -> list[ModelError]:
    """Returns an error for every kernel that two wrappers hold, each with a scale of its own."""
    owners: dict[int, Node] = {}
    problems: list[ModelError] = []
    for node in flat.nodes:
        if isinstance(node.operation, Quantized):
            owner = owners.setdefault(id(node.operation.layer), node)
            if owner.operation is not node.operation:
                problems.append(
                    ModelError(
                        node.path,
                        f"its weights have a scale of their own in {owner.path} as well",
                        "Wrap the layer once and call that wrapper in both places",
                        "one layer in two tfqreg.Quantized",
                    )
                )
    return problems
