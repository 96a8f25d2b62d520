"""Layers that resize an image."""

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node

from .builder import Builder, Value
from .common import Lowering, channels_last
from .shapes import image_shape, static_shape

KINDS = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}


def _upsample(builder: Builder, node: Node) -> Value:
    interpolation = getattr(node.operation, "interpolation", "nearest")
    return _resized(builder, node, interpolation, half_pixel_centers=interpolation == "bilinear")


def _resize(builder: Builder, node: Node) -> Value:
    operation = node.operation
    ignored = ("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
    if on := [name for name in ignored if getattr(operation, name, False)]:
        raise ModelError(
            node.path, f"resizing has no integer form with {on[0]}", received=f"{on[0]}=True"
        )
    return _resized(builder, node, operation.interpolation, half_pixel_centers=True)


def _resized(builder: Builder, node: Node, interpolation: str, half_pixel_centers: bool) -> Value:
    channels_last(node.operation, node.path)
    if interpolation not in KINDS:
        raise ModelError(
            node.path,
            f"the interpolation is one of {', '.join(KINDS)}",
            received=f"interpolation={interpolation!r}",
        )
    source = builder.integer(node.inputs[0], node.path)
    shape = static_shape(node.outputs[0], node.path)
    target = image_shape(shape)
    size = builder.constant(f"{node.path}/size", np.array(target[1:3], np.int32))
    kind, image = KINDS[interpolation], builder.image(source)
    output = builder.moved(
        kind, image, target, node.path, size, half_pixel_centers=half_pixel_centers
    )
    return builder.reshaped(output, shape)


LOWERINGS: dict[str, Lowering] = {
    "Resize": _resize,
    "Resizing": _resize,
    "UpSampling1D": _upsample,
    "UpSampling2D": _upsample,
}
