"""Layers that take a part of a tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node

from .builder import Builder, Value
from .common import Lowering, channels_last, same_value
from .shapes import static_shape


def _sliced(builder: Builder, source: str, ranges: Sequence[range], path: str) -> str:
    """Returns the elements of a tensor at a range along each axis after the batch."""
    sizes = builder.shape(source)[1:]
    if all(part == range(size) for part, size in zip(ranges, sizes, strict=True)):
        return source
    limits = {
        "begin": [0, *(part.start for part in ranges)],
        "end": [0, *(part.stop for part in ranges)],
        "strides": [1, *(part.step for part in ranges)],
    }
    constants = (
        builder.constant(f"{path}/{name}", np.array(values, np.int32))
        for name, values in limits.items()
    )
    return builder.moved("STRIDED_SLICE", source, (1, *map(len, ranges)), path, *constants)


def _crop(builder: Builder, node: Node) -> Value:
    channels_last(node.operation, node.path)
    source = builder.integer(node.inputs[0], node.path)
    widths = node.operation.cropping
    widths = [*([widths] if isinstance(widths[0], int) else widths), (0, 0)]
    sizes = builder.shape(source)[1:]
    return _sliced(
        builder,
        source,
        [range(a, n - b) for n, (a, b) in zip(sizes, widths, strict=True)],
        node.path,
    )


def _center_crop(builder: Builder, node: Node) -> Value:
    layer, source = node.operation, builder.integer(node.inputs[0], node.path)
    channels_last(layer, node.path)
    _, high, wide, channels = builder.shape(source)
    if high < layer.height or wide < layer.width:
        raise ModelError(
            node.path,
            "a CenterCrop has an integer form if the image is no smaller than the crop",
            "Resize the image first, with layers.Resizing",
            f"{(high, wide)} to {(layer.height, layer.width)}",
        )
    top, left = (high - layer.height) // 2, (wide - layer.width) // 2
    ranges = [range(top, top + layer.height), range(left, left + layer.width), range(channels)]
    return _sliced(builder, source, ranges, node.path)


def _random_crop(builder: Builder, node: Node) -> Value:
    """Keras crops in training alone, and counts on the smaller shape all the same."""
    if node.inputs[0].shape != node.outputs[0].shape:
        raise ModelError(
            node.path,
            "a RandomCrop leaves an image at its size at inference, and what follows is built for "
            "another",
            "Crop in the data pipeline, or use layers.CenterCrop",
            f"{node.inputs[0].shape} to {node.outputs[0].shape}",
        )
    return same_value(builder, node)


def _item(builder: Builder, node: Node) -> Value:
    source, key = builder.integer(node.inputs[0], node.path), _key(node)
    parts = [part for part in key if part is not None]
    ranges = [
        _range(part, size, node) for part, size in zip(parts, builder.shape(source), strict=True)
    ]
    if parts[0] != slice(None) or key[0] is None:
        raise ModelError(
            node.path, "the batch must be taken whole, as x[:, ...]", received=str(key)
        )
    output = _sliced(builder, source, ranges[1:], node.path)
    return builder.reshaped(output, static_shape(node.outputs[0], node.path))


def _key(node: Node) -> list[Any]:
    """Returns the key of x[key] with an entry for every axis."""
    key = node.kwargs.get("key", (*node.args, None)[1])
    key = list(key) if isinstance(key, tuple) else [key]
    missing = len(node.inputs[0].shape) - sum(
        part is not None and part is not Ellipsis for part in key
    )
    place = next((i for i, part in enumerate(key) if part is Ellipsis), len(key))
    return [*key[:place], *[slice(None)] * missing, *key[place + 1 :]]


def _range(part: Any, size: int, node: Node) -> range:
    if isinstance(part, int | np.integer):
        start = int(part) % size
        return range(start, start + 1)
    taken = range(size)[part] if isinstance(part, slice) else range(0)
    if not taken or taken.step < 1:
        raise ModelError(
            node.path,
            "slices take numbers and steps forward, and at least one element",
            received=str(part),
        )
    return taken


def _split(builder: Builder, node: Node) -> list[Value]:
    source, axis = (
        builder.integer(node.inputs[0], node.path),
        node.operation.axis % len(node.inputs[0].shape),
    )
    if axis == 0:
        raise ModelError(node.path, "samples cannot be split, the batch is open", received="axis=0")
    values: list[Value] = []
    start = 0
    for edge in node.outputs:
        ranges = [range(n) for n in static_shape(edge, node.path)]
        ranges[axis] = range(start, start := start + len(ranges[axis]))
        values.append(_sliced(builder, source, ranges[1:], f"{node.path}/{len(values)}"))
    return values


LOWERINGS: dict[str, Lowering] = {
    "CenterCrop": _center_crop,
    "Cropping1D": _crop,
    "Cropping2D": _crop,
    "GetItem": _item,
    "RandomCrop": _random_crop,
    "Split": _split,
}
