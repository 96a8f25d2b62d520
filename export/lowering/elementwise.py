"""Layers of two tensors, element by element."""

from tfqreg.graph import Node

from ..build import Builder, Open, Value, static_shape
from .common import Lowering


def _add(builder: Builder, node: Node) -> Value:
    if len(node.inputs) != 2 or node.inputs[0].shape[1:] != node.inputs[1].shape[1:]:
        raise ValueError(
            f"{node.path}: Add takes two tensors of one shape. Chain several additions. "
            f"Received: {[edge.shape for edge in node.inputs]}"
        )
    sources = tuple(builder.integer(edge, node.path) for edge in node.inputs)
    return Open("ADD", sources, static_shape(node.outputs[0], node.path), node.path)


LOWERINGS: dict[str, Lowering] = {
    "Add": _add,
}
