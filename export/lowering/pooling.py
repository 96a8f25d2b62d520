"""Pools."""

from dataclasses import replace

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node

from ..ir import Attribute
from .builder import Builder, Open, Pool, Value
from .common import Lowering, channels_last, pair
from .shapes import image_shape, static_shape


def _max_pool(builder: Builder, node: Node) -> Value:
    return _maximum(builder, node, _pool_attributes(node))


def _global_max(builder: Builder, node: Node) -> Value:
    _whole_image(node)
    size = image_shape(static_shape(node.inputs[0], node.path))[1:3]
    return _maximum(
        builder, node, {"filter": size, "stride": (1, 1), "padding": "VALID", "activation": "NONE"}
    )


def _maximum(builder: Builder, node: Node, attributes: dict[str, Attribute]) -> Value:
    value = builder.values[node.inputs[0]]
    source, shape = (static_shape(edge, node.path) for edge in (node.inputs[0], node.outputs[0]))
    if isinstance(value, Open):
        pool = Pool(node.path, image_shape(source), image_shape(shape), attributes)
        return replace(value, pools=(*value.pools, pool))
    return _pooled(builder, node, "MAX_POOL_2D", attributes)


def _pooled(builder: Builder, node: Node, kind: str, attributes: dict[str, Attribute]) -> str:
    source, shape = (
        builder.integer(node.inputs[0], node.path),
        static_shape(node.outputs[0], node.path),
    )
    output = builder.moved(kind, builder.image(source), image_shape(shape), node.path, **attributes)
    return builder.reshaped(output, shape)


def _average_pool(builder: Builder, node: Node) -> Value:
    return _pooled(builder, node, "AVERAGE_POOL_2D", _pool_attributes(node))


def _pool_attributes(node: Node) -> dict[str, Attribute]:
    layer, rank = node.operation, len(node.inputs[0].shape) - 2
    channels_last(layer, node.path)
    return {
        "filter": pair(layer.pool_size, rank),
        "stride": pair(layer.pool_size if layer.strides is None else layer.strides, rank),
        "padding": layer.padding.upper(),
        "activation": "NONE",
    }


def _global_average(builder: Builder, node: Node) -> Value:
    _whole_image(node)
    source = builder.image(builder.integer(node.inputs[0], node.path))
    axes = builder.constant("axes", np.array([1, 2], np.int32))
    shape = static_shape(node.outputs[0], node.path)
    keep_dims = bool(node.operation.keepdims)
    return Open(
        "MEAN",
        (source, axes),
        image_shape(shape) if keep_dims else shape,
        node.path,
        {"keep_dims": keep_dims},
    )


def _whole_image(node: Node) -> None:
    """Raises ModelError unless all axes between batch and channels are reduced."""
    operation, rank = node.operation, len(node.inputs[0].shape)
    if hasattr(operation, "data_format"):
        return channels_last(operation, node.path)
    axes = range(rank) if operation.axis is None else np.ravel(operation.axis)
    if rank not in (3, 4) or sorted(int(axis) % rank for axis in axes) != list(range(1, rank - 1)):
        raise ModelError(
            node.path,
            "a mean or maximum must be over all axes between the batch and the channels",
            received=f"axis={operation.axis} of {node.inputs[0].shape}",
        )


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePool"), _average_pool),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D", "Mean"), _global_average),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D", "Max"), _global_max),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPool"), _max_pool),
}
