"""Activation functions: fused where a kernel has them, an operator elsewhere."""

from dataclasses import replace

import keras
import numpy as np

from tfqreg.graph import Node
from tfqreg.placement import activation_name

from ..build import Builder, Open, Value, static_shape
from ..ir import Quantization
from .common import Lowering, same_value

SOFTMAX_GRID = Quantization(np.array(1 / 256), -128)
FUSED = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6"}


def _relu(builder: Builder, node: Node) -> Value:
    kind = _relu_kind(node)
    value = builder.values[node.inputs[0]]
    if isinstance(value, Open) and value.activation == "NONE" and value.kind != "CONCATENATION" and not value.pools:
        return replace(value, activation=kind)
    source = builder.integer(node.inputs[0], node.path)
    return Open(kind, (source,), static_shape(node.outputs[0], node.path), node.path, activation=kind)


def _relu_kind(node: Node) -> str:
    operation = node.operation
    if isinstance(operation, keras.layers.ReLU):
        if operation.negative_slope or operation.threshold or operation.max_value not in (None, 6):
            raise ValueError(
                f"{node.path}: only ReLU and ReLU6 have an integer form yet. Received: max_value="
                f"{operation.max_value}, negative_slope={operation.negative_slope}, threshold={operation.threshold}"
            )
        return "RELU6" if operation.max_value == 6 else "RELU"
    return "RELU6" if "relu6" in (type(operation).__name__.lower(), activation_name(operation)) else "RELU"


def _activation(builder: Builder, node: Node) -> Value:
    name = activation_name(node.operation)
    if name == "linear":
        return same_value(builder, node)
    if name in ("relu", "relu6"):
        return _relu(builder, node)
    if name == "softmax":
        return _softmax(builder, node)
    raise ValueError(f"{node.path}: the activation {name!r} has no integer form yet. Use relu, relu6 or softmax.")


def _softmax(builder: Builder, node: Node) -> Value:
    if getattr(node.operation, "axis", -1) not in (-1, len(node.inputs[0].shape) - 1):
        raise ValueError(f"{node.path}: Softmax must be over the last axis. Received: axis={node.operation.axis}")
    source = builder.integer(node.inputs[0], node.path)
    output = builder.tensor(node.path, static_shape(node.outputs[0], node.path), SOFTMAX_GRID)
    return builder.emit("SOFTMAX", (source,), output, beta=1.0)


LOWERINGS: dict[str, Lowering] = {
    "Activation": _activation,
    "ReLU": _relu,
    "Relu": _relu,
    "Relu6": _relu,
    "Softmax": _softmax,
}
