"""Convolutions: plain, grouped, depthwise and transposed, over images and over rows."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.layers import Quantized

from ..ir import Attribute
from ..kernels.windows import Pair, padding_before_after, stride_remainder
from .builder import Builder, Open
from .common import channels_last, padded, pair
from .fold import weights_of
from .shapes import image_shape, static_shape


def convolution(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    """Returns the CONV_2D or DEPTHWISE_CONV_2D of a Conv or DepthwiseConv layer."""
    layer: Any = wrapper.layer
    channels_last(layer, node.path)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    stride, dilation = pair(layer.strides, layer.rank), pair(layer.dilation_rate, layer.rank)
    attributes: dict[str, Attribute] = {
        "padding": layer.padding.upper(),
        "stride": stride,
        "dilation": dilation,
    }
    if depthwise:
        attributes["depth_multiplier"] = layer.depth_multiplier
    source = builder.image(builder.integer(node.inputs[0], node.path))
    reach = [
        (k - 1) * d + 1 for k, d in zip(pair(layer.kernel_size, layer.rank), dilation, strict=True)
    ]
    paddings = _explicit_paddings(layer.padding, builder.shape(source)[1:3], reach, stride)
    if layer.padding == "valid" and _padded_as_same(builder, source, reach, stride):
        attributes["padding"], source = "SAME", builder.unpadded[source][0]
    if paddings is not None:
        attributes["padding"] = "VALID"
        source = padded(builder, source, np.array([(0, 0), *paddings, (0, 0)], np.int32), node.path)
    return Open(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        (source,),
        image_shape(static_shape(node.outputs[0], node.path)),
        node.path,
        attributes,
        weights_of(wrapper, node.path),
    )


def _explicit_paddings(
    padding: str, sizes: tuple[int, ...], reach: list[int], stride: Pair
) -> list[Pair] | None:
    """Returns the padding that a convolution needs as a PAD of its own; None for most.

    A causal one needs it, and a SAME one whose stride skips rows.

    TensorFlow 2.21's XNNPACK pads the latter by a negative amount, silently.
    """
    if padding == "causal":
        return [(0, 0), (reach[1] - 1, 0)]
    axes = list(zip(sizes, reach, stride, strict=True))
    if padding != "same" or all(stride_remainder(*axis) <= 0 for axis in axes):
        return None
    return [padding_before_after(*axis, "SAME") for axis in axes]


def _padded_as_same(builder: Builder, source: str, reach: list[int], stride: Pair) -> bool:
    """Returns whether a tensor is one that was padded by what SAME adds: then no PAD is needed."""
    if source not in builder.unpadded:
        return False
    origin, paddings = builder.unpadded[source]
    axes = list(zip(builder.shape(origin)[1:3], reach, stride, strict=True))
    same = [(0, 0), *(padding_before_after(*axis, "SAME") for axis in axes), (0, 0)]
    return all(stride_remainder(*axis) <= 0 for axis in axes) and np.array_equal(paddings, same)


def transposed_convolution(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    """Returns the TRANSPOSE_CONV of a Conv1DTranspose or Conv2DTranspose layer."""
    layer: Any = wrapper.layer
    channels_last(layer, node.path)
    stride = pair(layer.strides, layer.rank)
    if pair(layer.dilation_rate, layer.rank) != (1, 1):
        raise ModelError(
            node.path,
            "a transposed convolution with dilation has no integer form",
            "Use dilation_rate=1, or upsample and convolve",
            f"dilation_rate={layer.dilation_rate}",
        )
    weights = weights_of(wrapper, node.path)
    # XNNPACK refuses a window narrower than the stride; taps of zeros change nothing.
    missing = [max(s - k, 0) for s, k in zip(stride, weights.codes.shape[1:3], strict=True)]
    codes = np.pad(weights.codes, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)])
    return Open(
        "TRANSPOSE_CONV",
        (builder.image(builder.integer(node.inputs[0], node.path)),),
        image_shape(static_shape(node.outputs[0], node.path)),
        node.path,
        {"padding": layer.padding.upper(), "stride": stride},
        replace(weights, codes=codes),
    )
