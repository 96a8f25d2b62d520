"""Activation functions: fused into an operator, folded into weights, or an operator."""

from dataclasses import replace
from typing import TypeGuard

import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.graph.roles import FIXED_GRIDS, function_name

from ..ir import Attribute, Quantization
from .affine import folded
from .builder import SHARES_GRID, Builder, Open, Value
from .common import Lowering, same_value
from .shapes import static_shape

FUSED = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6"}
_NO_KERNEL = {
    "elu": "the reference kernels have no ELU",
    "gelu": "TensorFlow Lite for Microcontrollers has no GELU",
}


def _function(builder: Builder, node: Node) -> Value | list[Value]:
    name = function_name(node.operation) or type(node.operation).__name__
    lowering = _BY_FUNCTION.get(name)
    if lowering is None:
        why = f" ({_NO_KERNEL[name]})" if name in _NO_KERNEL else ""
        remedy = (
            "tfqreg.quantize(model) makes it x * sigmoid(x)"
            if name == "silu"
            else f"Use one of {', '.join(sorted(_BY_FUNCTION))}"
        )
        raise ModelError(
            node.path, f"no int8 operator that all runtimes have computes {name!r}{why}", remedy
        )
    return lowering(builder, node)


def _relu(builder: Builder, node: Node) -> Value:
    operation = node.operation
    slope, threshold = getattr(operation, "negative_slope", 0), getattr(operation, "threshold", 0)
    highest = 6.0 if function_name(operation) == "relu6" else getattr(operation, "max_value", None)
    if threshold or (slope and highest is not None):
        raise ModelError(
            node.path,
            "a ReLU has an integer form with threshold=0, and with a slope or a maximum but "
            "not both",
            received=f"max_value={highest}, negative_slope={slope}, threshold={threshold}",
        )
    if slope:
        return _leaky_relu(builder, node)
    return _clipped(builder, node, highest)


def _clipped(builder: Builder, node: Node, highest: float | None) -> Open:
    """Returns the value of `min(max(x, 0), highest)`."""
    value = builder.values[node.inputs[0]]
    if _takes_clip(value):
        if highest == 6:
            return replace(value, activation="RELU6", gain=None)
        return replace(value, activation="RELU", high=highest, gain=None)
    source = builder.integer(node.inputs[0], node.path)
    shape = static_shape(node.outputs[0], node.path)
    # Not RELU6: the one of TensorFlow Lite for Microcontrollers cannot change the scale.
    return Open("RELU", (source,), shape, node.path, activation="RELU", high=highest)


def _takes_clip(value: Value) -> TypeGuard[Open]:
    return isinstance(value, Open) and value.is_bare and value.kind not in SHARES_GRID


def _clip(builder: Builder, node: Node) -> Open:
    low, high = (
        None if x is None else float(x) for x in (node.operation.x_min, node.operation.x_max)
    )
    if low == 0:
        return _clipped(builder, node, high)
    value = builder.values[node.inputs[0]]
    if _takes_clip(value):
        return replace(value, low=low, high=high, gain=None)
    source = builder.integer(node.inputs[0], node.path)
    shape = static_shape(node.outputs[0], node.path)
    return Open(
        "QUANTIZE",
        (source,),
        shape,
        node.path,
        low=low,
        high=high,
        emit=lambda builder, grid: builder.requantized(source, grid),
    )


def _hard_sigmoid(builder: Builder, node: Node) -> Value:
    return replace(
        folded(builder, node, np.array(1 / 6), np.array(0.5)),
        activation="RELU",
        high=1.0,
        gain=None,
    )


def _fixed(kind: str, **attributes: Attribute) -> Lowering:
    """Lowers a function whose operator dictates the output's grid."""

    def lowering(builder: Builder, node: Node) -> Value:
        scale, signed = FIXED_GRIDS[function_name(node.operation) or ""]
        grid = Quantization(np.array(scale), 0 if signed else -128)
        source = builder.integer(node.inputs[0], node.path)
        output = builder.tensor(node.path, static_shape(node.outputs[0], node.path), grid)
        return builder.emit(kind, (source,), output, **attributes)

    return lowering


def _softmax(builder: Builder, node: Node) -> Value | list[Value]:
    axis = getattr(node.operation, "axis", -1)
    if axis not in (-1, len(node.inputs[0].shape) - 1):
        raise ModelError(node.path, "Softmax must be over the last axis", received=f"axis={axis}")
    return _fixed("SOFTMAX", beta=1.0)(builder, node)


def _unit_norm(builder: Builder, node: Node) -> Value | list[Value]:
    axis, order = node.operation.axis, getattr(node.operation, "order", 2)
    if order != 2 or axis not in (-1, len(node.inputs[0].shape) - 1):
        raise ModelError(
            node.path,
            "a normalization of vectors has an integer form over one axis, by the 2-norm",
            received=f"axis={axis}, order={order}",
        )
    shape = static_shape(node.outputs[0], node.path)
    source = builder.image(builder.integer(node.inputs[0], node.path))
    scale, _ = FIXED_GRIDS["unit_norm"]
    output = builder.tensor(node.path, builder.shape(source), Quantization(np.array(scale)))
    return builder.reshaped(builder.emit("L2_NORMALIZATION", (source,), output), shape)


def _hard_swish(builder: Builder, node: Node) -> Value:
    source = builder.integer(node.inputs[0], node.path)
    return Open("HARD_SWISH", (source,), static_shape(node.outputs[0], node.path), node.path)


def _leaky_relu(builder: Builder, node: Node) -> Value:
    source = builder.integer(node.inputs[0], node.path)
    # 0.2 is the slope of the function keras.activations.leaky_relu.
    slope: dict[str, Attribute] = {"alpha": float(getattr(node.operation, "negative_slope", 0.2))}
    return Open("LEAKY_RELU", (source,), static_shape(node.outputs[0], node.path), node.path, slope)


def _prelu(builder: Builder, node: Node) -> Value:
    source = builder.integer(node.inputs[0], node.path)
    values = ops.convert_to_numpy(node.operation.alpha).astype(np.float64)
    if not np.isfinite(values).all():
        raise ModelError(node.path, "NaN or infinity in the slopes", "Load sound weights")
    scale = np.array(np.abs(values).max() / 127 or 1.0, np.float32)
    codes = np.rint(values / scale).astype(np.int8)
    slopes = builder.constant(f"{node.path}/alpha", codes, Quantization(scale))
    return Open("PRELU", (source, slopes), static_shape(node.outputs[0], node.path), node.path)


_BY_FUNCTION: dict[str, Lowering] = {
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_swish,
    "leaky_relu": _leaky_relu,
    "linear": same_value,
    "relu": _relu,
    "relu6": _relu,
    "sigmoid": _fixed("LOGISTIC"),
    "softmax": _softmax,
    "tanh": _fixed("TANH"),
    "unit_norm": _unit_norm,
}

LOWERINGS: dict[str, Lowering] = {
    "Clip": _clip,
    "PReLU": _prelu,
    **dict.fromkeys(
        (
            *(
                "Activation",
                "ELU",
                "Elu",
                "Gelu",
                "HardSigmoid",
                "HardSilu",
                "LeakyReLU",
                "LeakyRelu",
                "ReLU",
                "Relu",
            ),
            *("Relu6", "Sigmoid", "Silu", "Softmax", "Softplus", "Tanh"),
            *("Normalize", "UnitNormalization"),
        ),
        _function,
    ),
}
