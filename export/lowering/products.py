"""Layers with a kernel, and the BatchNorm that folds into them."""

from collections.abc import Callable
from dataclasses import replace

import keras

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.graph.roles import activation_name
from tfqreg.layers import Quantized

from ..ir import Attribute
from .activations import FUSED
from .builder import Builder, Open, Value
from .common import Lowering
from .convolutions import convolution, transposed_convolution
from .dense import dense, einsum_dense
from .fold import fold_norm, identity_weights, scale_exponents
from .shapes import image_shape, static_shape


def _quantized(builder: Builder, node: Node) -> Value:
    wrapper, layer = node.operation, node.operation.layer
    lowering = _WRAPPED.get(type(layer))
    if lowering is None:
        name = type(layer).__name__
        remedy = (
            f"tfqreg.quantize(model) splits it into {name.replace('Separable', 'Depthwise')} and "
            f"{name.removeprefix('Separable')}; wrap those two"
            if name.startswith("Separable")
            else f"Use one of {', '.join(sorted(cls.__name__ for cls in _WRAPPED))}"
        )
        raise ModelError(node.path, f"a wrapped {name} has no integer form yet", remedy)
    if activation_name(layer) not in FUSED:
        raise ModelError(
            node.path,
            f"no kernel has {activation_name(layer)!r} built in",
            "Make it a layer of its own after a QuantizedActivation, as "
            "tfqreg.quantize(model) does",
        )
    opened = lowering(builder, node, wrapper)
    if exponents := scale_exponents(wrapper):
        builder.graph.exponents[node.path] = exponents
    return replace(opened, activation=FUSED[activation_name(layer)])


def _norm(builder: Builder, node: Node) -> Value:
    norm, value = node.operation, builder.values[node.inputs[0]]
    shape = static_shape(node.outputs[0], node.path)
    if norm.axis not in (-1, len(shape) - 1):
        raise ModelError(
            node.path, "BatchNormalization must be over the last axis", received=f"axis={norm.axis}"
        )
    if (
        isinstance(value, Open)
        and value.weights is not None
        and len(value.weights.scale) == shape[-1]
        and value.is_bare
    ):
        return replace(value, weights=fold_norm(value.weights, norm))
    attributes: dict[str, Attribute] = {
        "padding": "VALID",
        "stride": (1, 1),
        "dilation": (1, 1),
        "depth_multiplier": 1,
    }
    source = builder.image(builder.integer(node.inputs[0], node.path))
    weights = fold_norm(identity_weights(shape[-1]), norm)
    return Open("DEPTHWISE_CONV_2D", (source,), image_shape(shape), node.path, attributes, weights)


_WRAPPED: dict[type, Callable[[Builder, Node, Quantized], Open]] = {
    keras.layers.Conv1D: convolution,
    keras.layers.Conv1DTranspose: transposed_convolution,
    keras.layers.Conv2D: convolution,
    keras.layers.Conv2DTranspose: transposed_convolution,
    keras.layers.Dense: dense,
    keras.layers.DepthwiseConv1D: convolution,
    keras.layers.DepthwiseConv2D: convolution,
    keras.layers.EinsumDense: einsum_dense,
}

LOWERINGS: dict[str, Lowering] = {
    "BatchNormalization": _norm,
    "Quantized": _quantized,
}
