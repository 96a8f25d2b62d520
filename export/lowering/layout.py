"""Layers that move values without computing."""

import numpy as np

from tfqreg.graph import Node

from ..build import Builder, Open, Value, static_shape
from .common import Lowering, channels_last, padded


def _concatenation(builder: Builder, node: Node) -> Value:
    sources = tuple(builder.integer(edge, node.path) for edge in node.inputs)
    shape = static_shape(node.outputs[0], node.path)
    opened = Open("CONCATENATION", sources, shape, node.path, {"axis": node.operation.axis % len(shape)})
    grids = {(builder.grid(name).zero_point, float(builder.grid(name).scale[0])) for name in sources}
    # Inputs on one grid leave nothing to wait for.
    return builder.close(opened, builder.grid(sources[0])) if len(grids) == 1 else opened


def _reshape(builder: Builder, node: Node) -> Value:
    return builder.same_grid(node, "RESHAPE", shape=static_shape(node.outputs[0], node.path))


def _pad(builder: Builder, node: Node) -> Value:
    channels_last(node.operation, node.path)
    paddings = np.array([(0, 0), *node.operation.padding, (0, 0)], np.int32)
    return padded(builder, builder.integer(node.inputs[0], node.path), paddings, node.path)


LOWERINGS: dict[str, Lowering] = {
    "Concatenate": _concatenation,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "ZeroPadding2D": _pad,
}
