"""`gain * x + offset` with constants.

They go into the weights before or after it, or into a depthwise 1x1 kernel of its own.
"""

from dataclasses import replace

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.affine import affine_of
from tfqreg.graph.flat import Node
from tfqreg.graph.roles import Role, role
from tfqreg.layers import Quantized

from ..ir import Attribute
from .builder import Builder, Open, Value
from .common import Lowering
from .fold import FoldedWeights, identity_weights
from .shapes import static_shape


def affine(builder: Builder, node: Node) -> Value:
    """Returns the value of a layer that multiplies and adds constants."""
    found = affine_of(node.operation)
    if found is None:
        raise ModelError(
            node.path,
            "its constants must be finite, and one number or one per channel (the last axis)",
            "Adapt or build the layer, or use Multiply and Add of two tensors",
        )
    return folded(builder, node, *found)


def folded(builder: Builder, node: Node, gain: np.ndarray, offset: np.ndarray) -> Open:
    """Returns the value of a node that computes `gain * x + offset`.

    The constants have one element, or one per channel.
    """
    value, channels = builder.values[node.inputs[0]], static_shape(node.outputs[0], node.path)[-1]
    only_scales = gain.ndim == 0 and gain > 0 and not offset.any()
    if isinstance(value, Open) and takes_weights(value, gain, offset):
        assert value.weights is not None
        pending = (
            (value.gain[0], value.gain[1] * float(gain)) if value.gain and only_scales else None
        )
        return replace(value, weights=fold_affine(value.weights, gain, offset), gain=pending)
    source = builder.integer(node.inputs[0], node.path)
    weights = fold_affine(identity_weights(channels), gain, offset)
    return _depthwise(
        builder, source, node, weights, (source, float(gain)) if only_scales else None
    )


def _depthwise(
    builder: Builder,
    source: str,
    node: Node,
    weights: FoldedWeights,
    gain: tuple[str, float] | None,
) -> Open:
    attributes: dict[str, Attribute] = {
        "padding": "VALID",
        "stride": (1, 1),
        "dilation": (1, 1),
        "depth_multiplier": 1,
    }
    image = builder.image(source)
    return Open(
        "DEPTHWISE_CONV_2D",
        (image,),
        builder.shape(image),
        node.path,
        attributes,
        weights,
        gain=gain,
    )


def takes_weights(value: Open, gain: np.ndarray, offset: np.ndarray) -> bool:
    """Returns whether constants fold into the weights of an open operator."""
    return (
        value.is_bare
        and value.weights is not None
        and {gain.size, offset.size} <= {1, len(value.weights.scale)}
    )


def fold_affine(weights: FoldedWeights, gain: np.ndarray, offset: np.ndarray) -> FoldedWeights:
    """Returns the weights with `gain * x + offset` after them folded in."""
    gain = np.broadcast_to(gain, weights.scale.shape)
    shape = [1] * weights.codes.ndim
    shape[weights.channel_axis] = -1
    return replace(
        weights,
        codes=weights.codes * np.sign(gain).astype(np.int16).reshape(shape),
        scale=weights.scale * np.abs(gain),
        bias=weights.bias * gain + offset,
    )


def with_gain_ahead(lowering: Lowering, builder: Builder, node: Node) -> Value | list[Value]:
    """Lowers a node whose input may be a tensor times a number still pending.

    The number goes into its weights, or past it.
    """
    edge = node.inputs[0] if node.inputs else None
    pending = builder.values.get(edge) if edge else None
    weighs = isinstance(node.operation, Quantized) or role(node.operation) == Role.NORM
    if (
        edge is None
        or not isinstance(pending, Open)
        or not pending.gain
        or not (weighs or role(node.operation) == Role.KEEP)
    ):
        return lowering(builder, node)
    builder.values[edge], gain = pending.gain
    try:
        values = lowering(builder, node)
    finally:
        builder.values[edge] = pending
    if weighs:
        assert isinstance(values, Open) and values.weights is not None
        return replace(values, weights=replace(values.weights, scale=values.weights.scale * gain))
    names = values if isinstance(values, list) else [values]
    moved: list[Value] = [
        _scaled(builder, name, node, gain) for name in names if isinstance(name, str)
    ]
    return moved if isinstance(values, list) else moved[0]


def _scaled(builder: Builder, name: str, node: Node, gain: float) -> Open:
    weights = fold_affine(identity_weights(builder.shape(name)[-1]), np.array(gain), np.zeros(()))
    return _depthwise(builder, name, node, weights, (name, gain))


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(("Negative", "Normalization", "Rescaling"), affine),
}
