"""Pools, and reductions over any axes."""

from dataclasses import replace

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.graph.placement import is_over_image
from tfqreg.graph.roles import reduced_axes

from ..ir import Attribute
from .builder import Builder, Open, Pool, Value
from .common import Lowering, channels_last, pair
from .shapes import image_shape, static_shape


def _max_pool(builder: Builder, node: Node) -> Value:
    return _maximum(builder, node, _pool_attributes(node))


def _global_max(builder: Builder, node: Node) -> Value:
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


def _global_layer(lowering: Lowering) -> Lowering:
    def checked(builder: Builder, node: Node) -> Value | list[Value]:
        channels_last(node.operation, node.path)
        return lowering(builder, node)

    return checked


def _global_average(builder: Builder, node: Node) -> Value:
    source = builder.image(builder.integer(node.inputs[0], node.path))
    shape = static_shape(node.outputs[0], node.path)
    keep_dims = bool(node.operation.keepdims)
    return _mean(builder, node, source, [1, 2], image_shape(shape) if keep_dims else shape)


def _mean(
    builder: Builder, node: Node, source: str, axes: list[int], shape: tuple[int, ...]
) -> Open:
    name = builder.constant("axes", np.array(axes, np.int32))
    keep_dims = bool(node.operation.keepdims)
    return Open("MEAN", (source, name), shape, node.path, {"keep_dims": keep_dims})


def _mean_of_axes(builder: Builder, node: Node) -> Value:
    if is_over_image(node):
        return _global_average(builder, node)
    source = builder.integer(node.inputs[0], node.path)
    return _mean(builder, node, source, _axes(node), static_shape(node.outputs[0], node.path))


def _picked(kind: str) -> Lowering:
    def lowering(builder: Builder, node: Node) -> Value:
        source = builder.integer(node.inputs[0], node.path)
        shape = static_shape(node.outputs[0], node.path)
        axes = builder.constant("axes", np.array(_axes(node), np.int32))
        keep_dims = bool(node.operation.keepdims)
        return builder.moved(kind, source, shape, node.path, axes, keep_dims=keep_dims)

    return lowering


def _max_of_axes(builder: Builder, node: Node) -> Value | list[Value]:
    reduced = _global_max if is_over_image(node) else _picked("REDUCE_MAX")
    return reduced(builder, node)


def _axes(node: Node) -> list[int]:
    """Returns the axes that are reduced; raises ModelError if the batch is one."""
    axes = reduced_axes(node.operation, len(node.inputs[0].shape))
    if 0 in axes:
        raise ModelError(
            node.path,
            "samples cannot be reduced, the batch is open",
            "Name the axes, from 1 on",
            f"axis={node.operation.axis} of {node.inputs[0].shape}",
        )
    return axes


def _argmax(builder: Builder, node: Node) -> Value:
    axes = _axes(node)
    source = builder.integer(node.inputs[0], node.path)
    sizes = builder.shape(source)
    shape = (*sizes[: axes[0]], *sizes[axes[0] + 1 :])
    axis = builder.constant("axes", np.array(axes, np.int32))
    output = builder.emit(
        "ARG_MAX", (source, axis), builder.tensor(node.path, shape, None, "int32")
    )
    kept = static_shape(node.outputs[0], node.path)
    if kept == shape:
        return output
    target = builder.tensor(node.path, kept, None, "int32")
    return builder.emit("RESHAPE", (output,), target, shape=kept)


LOWERINGS: dict[str, Lowering] = {
    "Argmax": _argmax,
    **dict.fromkeys(("Amin", "Min"), _picked("REDUCE_MIN")),
    **dict.fromkeys(("Amax", "Max"), _max_of_axes),
    "Mean": _mean_of_axes,
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePool"), _average_pool),
    **dict.fromkeys(
        ("GlobalAveragePooling1D", "GlobalAveragePooling2D"), _global_layer(_global_average)
    ),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), _global_layer(_global_max)),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPool"), _max_pool),
}
