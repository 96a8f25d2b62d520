"""Pools."""

from dataclasses import replace

import numpy as np

from tfqreg.graph import Node

from ..build import Builder, Open, Pool, Value, static_shape
from ..ir import Attribute
from .common import Lowering, channels_last


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
    channels_last(layer, node.path)
    return {
        "filter": tuple(layer.pool_size),
        "stride": tuple(layer.strides),
        "padding": layer.padding.upper(),
        "activation": "NONE",
    }


def _global_average(builder: Builder, node: Node) -> Value:
    channels_last(node.operation, node.path)
    source = builder.integer(node.inputs[0], node.path)
    axes = builder.constant("axes", np.array([1, 2], np.int32))
    shape = static_shape(node.outputs[0], node.path)
    return Open("MEAN", (source, axes), shape, node.path, {"keep_dims": bool(node.operation.keepdims)})


LOWERINGS: dict[str, Lowering] = {
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": _global_average,
    "MaxPooling2D": _max_pool,
}
