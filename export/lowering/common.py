"""What several lowering functions need."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node

from .builder import Builder, Value

Lowering = Callable[[Builder, Node], Value | list[Value]]


def padded(builder: Builder, source: str, paddings: np.ndarray, path: str) -> str:
    """Returns a tensor padded with zeros; `paddings` is (rank, 2) int32."""
    if not paddings.any():
        return source
    shape = tuple(
        int(n + before + after)
        for n, (before, after) in zip(builder.shape(source), paddings, strict=True)
    )
    output = builder.moved(
        "PAD", source, shape, f"{path}/padded", builder.constant(f"{path}/paddings", paddings)
    )
    builder.unpadded[output] = source, paddings
    return output


def same_value(builder: Builder, node: Node) -> Value:
    """Returns the value of the first input: a layer that does nothing at inference."""
    return builder.values[node.inputs[0]]


def channels_last(layer: Any, path: str) -> None:
    """Raises ModelError for a layer that is channels first."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise ModelError(
            path, "TFLite is channels last", received=f"data_format={layer.data_format!r}"
        )


def pair(values: int | tuple[int, ...], rank: int) -> tuple[int, int]:
    """Returns the (height, width) of a window, stride or dilation over `rank` axes.

    One axis is a row.
    """
    values = (values,) * rank if isinstance(values, int) else tuple(values)
    return (1, values[0]) if rank == 1 else (values[0], values[1])
