"""What lowering functions share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfqreg.graph import Node

from ..build import Builder, Value

Lowering = Callable[[Builder, Node], Value]


def padded(builder: Builder, source: str, paddings: np.ndarray, path: str) -> str:
    """Returns a tensor padded with zeros; `paddings` is (rank, 2) int32."""
    if not paddings.any():
        return source
    shape = tuple(int(n + before + after) for n, (before, after) in zip(builder.shape(source), paddings, strict=True))
    output = builder.tensor(f"{path}/padded", shape, builder.grid(source))
    builder.lowest[output] = builder.lowest.get(source, -128)
    return builder.emit("PAD", (source, builder.constant(f"{path}/paddings", paddings)), output)


def same_value(builder: Builder, node: Node) -> Value:
    """Returns the value of the first input: a layer that does nothing at inference."""
    return builder.values[node.inputs[0]]


def channels_last(layer: Any, path: str) -> None:
    """Raises ValueError for a layer that is channels first."""
    if layer.data_format != "channels_last":
        raise ValueError(f"{path}: TFLite is channels last. Received: data_format={layer.data_format!r}")
