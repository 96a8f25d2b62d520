"""Layers with a kernel, and the BatchNorm that folds into them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfqreg.graph import Node
from tfqreg.layers import Quantized
from tfqreg.placement import activation_name

from ..build import Builder, Open, Value, static_shape
from ..fold import fold_norm, identity_weights, weights_of
from ..ir import Attribute
from ..kernels.windows import padding_before_after, stride_remainder
from .activations import FUSED
from .common import Lowering, channels_last, padded


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
    channels_last(layer, node.path)
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
        source = padded(builder, source, paddings, node.path)
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


_WRAPPED: dict[type, Callable[[Builder, Node, Quantized], Open]] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _convolution,
    keras.layers.Dense: _dense,
}

LOWERINGS: dict[str, Lowering] = {
    "BatchNormalization": _norm,
    "Quantized": _quantized,
}
