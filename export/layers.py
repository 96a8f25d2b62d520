"""One short function a Keras layer: what it becomes in the integer graph.

A function takes the builder and the node and returns the node's value: an int8 tensor, or an operator left open for
the BatchNorm, ReLU and quantizer that follow.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfqreg.graph import Node
from tfqreg.layers import Quantized
from tfqreg.placement import INFERENCE_IDENTITY, activation_name

from .build import Builder, Open, Pool, Value, static_shape
from .fold import fold_norm, identity_weights, weights_of
from .ir import Attribute, Quantization
from .windows import padding_before_after, stride_remainder

Lowering = Callable[[Builder, Node], Value]
SOFTMAX_GRID = Quantization(np.array(1 / 256), -128)
FUSED = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6"}


def _quantized(builder: Builder, node: Node) -> Value:
    wrapper, layer = node.operation, node.operation.layer
    lowering = _WRAPPED.get(type(layer))
    if lowering is None:
        remedy = (
            "tfqreg.quantize(model) splits it into DepthwiseConv2D and Conv2D; wrap those two"
            if isinstance(layer, keras.layers.SeparableConv2D)
            else f"Use one of {', '.join(sorted(cls.__name__ for cls in _WRAPPED))}"
        )
        raise ValueError(f"{node.path}: a wrapped {type(layer).__name__} has no integer form yet. {remedy}.")
    if activation_name(layer) not in FUSED:
        raise ValueError(
            f"{node.path}: no kernel has {activation_name(layer)!r} built in. Make it a layer of its own behind a "
            "QuantizedActivation, as tfqreg.quantize(model) does."
        )
    opened = lowering(builder, node, wrapper)
    return replace(opened, activation=FUSED[activation_name(layer)])


def _convolution(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    layer: Any = wrapper.layer
    _channels_last(layer, node.path)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    if not depthwise and layer.groups != 1:
        raise ValueError(f"{node.path}: grouped convolutions have no integer form yet. Received: groups={layer.groups}")
    attributes: dict[str, Attribute] = {
        "padding": layer.padding.upper(),
        "stride": tuple(layer.strides),
        "dilation": tuple(layer.dilation_rate),
    }
    if depthwise:
        attributes["depth_multiplier"] = layer.depth_multiplier
    source = builder.integer(node.inputs[0], node.path)
    paddings = _explicit_paddings(layer, static_shape(node.inputs[0], node.path))
    if paddings is not None:
        attributes["padding"] = "VALID"
        source = _padded(builder, source, paddings, node.path)
    return Open(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        (source,),
        static_shape(node.outputs[0], node.path),
        node.path,
        attributes,
        weights_of(wrapper, depthwise, node.path),
    )


def _explicit_paddings(layer: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the padding of a SAME convolution whose stride skips rows; None where SAME itself is right.

    TensorFlow 2.21's XNNPACK pads such a convolution by a negative amount, silently.
    """
    reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    axes = list(zip(shape[1:3], reach, layer.strides, strict=True))
    if layer.padding != "same" or all(stride_remainder(*axis) <= 0 for axis in axes):
        return None
    return np.array([(0, 0), *(padding_before_after(*axis, "SAME") for axis in axes), (0, 0)], np.int32)


def _padded(builder: Builder, source: str, paddings: np.ndarray, path: str) -> str:
    if not paddings.any():
        return source
    shape = tuple(int(n + before + after) for n, (before, after) in zip(builder.shape(source), paddings, strict=True))
    output = builder.tensor(f"{path}/padded", shape, builder.grid(source))
    builder.lowest[output] = builder.lowest.get(source, -128)
    return builder.emit("PAD", (source, builder.constant(f"{path}/paddings", paddings)), output)


def _dense(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    shape = static_shape(node.outputs[0], node.path)
    if len(shape) != 2:
        raise ValueError(
            f"{node.path}: Dense takes a (batch, features) tensor here. Flatten first, or use a 1x1 convolution. "
            f"Received: {node.inputs[0].shape}"
        )
    source = builder.integer(node.inputs[0], node.path)
    return Open("FULLY_CONNECTED", (source,), shape, node.path, {}, weights_of(wrapper, False, node.path))


def _norm(builder: Builder, node: Node) -> Value:
    norm, value = node.operation, builder.values[node.inputs[0]]
    shape = static_shape(node.outputs[0], node.path)
    if norm.axis not in (-1, len(shape) - 1):
        raise ValueError(f"{node.path}: BatchNormalization must be over the last axis. Received: axis={norm.axis}")
    if isinstance(value, Open) and value.weights is not None and value.activation == "NONE" and not value.pools:
        return replace(value, weights=fold_norm(value.weights, norm))
    if len(shape) != 4:
        raise ValueError(
            f"{node.path}: a BatchNormalization that follows no convolution or Dense needs an image. "
            f"Received: {node.inputs[0].shape}"
        )
    attributes: dict[str, Attribute] = {
        "padding": "VALID",
        "stride": (1, 1),
        "dilation": (1, 1),
        "depth_multiplier": 1,
    }
    source = builder.integer(node.inputs[0], node.path)
    weights = fold_norm(identity_weights(shape[-1]), norm)
    return Open("DEPTHWISE_CONV_2D", (source,), shape, node.path, attributes, weights)


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
        return _same_value(builder, node)
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


def _add(builder: Builder, node: Node) -> Value:
    if len(node.inputs) != 2 or node.inputs[0].shape[1:] != node.inputs[1].shape[1:]:
        raise ValueError(
            f"{node.path}: Add takes two tensors of one shape. Chain several additions. "
            f"Received: {[edge.shape for edge in node.inputs]}"
        )
    sources = tuple(builder.integer(edge, node.path) for edge in node.inputs)
    return Open("ADD", sources, static_shape(node.outputs[0], node.path), node.path)


def _concatenation(builder: Builder, node: Node) -> Value:
    sources = tuple(builder.integer(edge, node.path) for edge in node.inputs)
    shape = static_shape(node.outputs[0], node.path)
    opened = Open("CONCATENATION", sources, shape, node.path, {"axis": node.operation.axis % len(shape)})
    grids = {(builder.grid(name).zero_point, float(builder.grid(name).scale[0])) for name in sources}
    # Inputs on one grid leave nothing to wait for.
    return builder.close(opened, builder.grid(sources[0])) if len(grids) == 1 else opened


def _max_pool(builder: Builder, node: Node) -> Value:
    value, attributes = builder.values[node.inputs[0]], _pool_attributes(node)
    if isinstance(value, Open):
        pool = Pool(node.path, static_shape(node.outputs[0], node.path), attributes)
        return replace(value, pools=(*value.pools, pool))
    return builder.same_grid(node, "MAX_POOL_2D", **attributes)


def _average_pool(builder: Builder, node: Node) -> Value:
    return builder.same_grid(node, "AVERAGE_POOL_2D", **_pool_attributes(node))


def _pool_attributes(node: Node) -> dict[str, Attribute]:
    layer = node.operation
    _channels_last(layer, node.path)
    return {
        "filter": tuple(layer.pool_size),
        "stride": tuple(layer.strides),
        "padding": layer.padding.upper(),
        "activation": "NONE",
    }


def _global_average(builder: Builder, node: Node) -> Value:
    _channels_last(node.operation, node.path)
    source = builder.integer(node.inputs[0], node.path)
    axes = builder.constant("axes", np.array([1, 2], np.int32))
    shape = static_shape(node.outputs[0], node.path)
    return Open("MEAN", (source, axes), shape, node.path, {"keep_dims": bool(node.operation.keepdims)})


def _reshape(builder: Builder, node: Node) -> Value:
    return builder.same_grid(node, "RESHAPE", shape=static_shape(node.outputs[0], node.path))


def _pad(builder: Builder, node: Node) -> Value:
    _channels_last(node.operation, node.path)
    paddings = np.array([(0, 0), *node.operation.padding, (0, 0)], np.int32)
    return _padded(builder, builder.integer(node.inputs[0], node.path), paddings, node.path)


def _same_value(builder: Builder, node: Node) -> Value:
    return builder.values[node.inputs[0]]


def _quantizer(builder: Builder, node: Node) -> Value:
    return builder.quantized(builder.values[node.inputs[0]], node.operation)


def _channels_last(layer: Any, path: str) -> None:
    if layer.data_format != "channels_last":
        raise ValueError(f"{path}: TFLite is channels last. Received: data_format={layer.data_format!r}")


_WRAPPED: dict[type, Callable[[Builder, Node, Quantized], Open]] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.Dense: _dense,
}

LOWERINGS: dict[str, Lowering] = {
    "Activation": _activation,
    "Add": _add,
    "AveragePooling2D": _average_pool,
    "BatchNormalization": _norm,
    "Concatenate": _concatenation,
    "Flatten": _reshape,
    "GlobalAveragePooling2D": _global_average,
    "MaxPooling2D": _max_pool,
    "Quantized": _quantized,
    "QuantizedActivation": _quantizer,
    "ReLU": _relu,
    "Relu": _relu,
    "Relu6": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "ZeroPadding2D": _pad,
    **dict.fromkeys(INFERENCE_IDENTITY, _same_value),
}
