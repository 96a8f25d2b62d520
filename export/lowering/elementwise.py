"""Layers of two tensors, or of a tensor and a constant, element by element."""

from typing import Any

import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.graph.affine import affine_of, constant_operand
from tfqreg.graph.flat import Node

from ..ir import Quantization
from .affine import affine
from .builder import Builder, Open, Value, same
from .common import Lowering
from .shapes import static_shape

_RANK = 4  # the reference kernels broadcast over no more axes


def _arithmetic(kind: str) -> Lowering:
    def lowering(builder: Builder, node: Node) -> Value:
        if affine_of(node.operation) is not None:
            return affine(builder, node)
        return Open(
            kind, _operands(builder, node), static_shape(node.outputs[0], node.path), node.path
        )

    return lowering


def _extremum(kind: str) -> Lowering:
    def lowering(builder: Builder, node: Node) -> Value:
        constant, shape = constant_operand(node.operation), static_shape(node.outputs[0], node.path)
        if constant is not None:
            source = builder.integer(node.inputs[0], node.path)
            return builder.extremum(
                kind, source, np.asarray(ops.convert_to_numpy(constant[0])), shape, node.path
            )
        operands = _operands(builder, node)
        opened = Open(kind, operands, shape, node.path)
        first, second = (builder.grid(name) for name in operands)
        # Inputs on one grid leave nothing to wait for.
        return builder.close(opened, first) if same(first, second) else opened

    return lowering


def _operands(builder: Builder, node: Node) -> tuple[str, str]:
    """Returns the names of the two operands, a constant among them in 8 bits."""
    names = [builder.integer(edge, node.path) for edge in node.inputs]
    constant = constant_operand(node.operation)
    if constant is not None:
        names.insert(0 if constant[1] else 1, _constant(builder, node, constant[0]))
    shapes = [builder.shape(name) for name in names]
    if len(names) != 2:
        raise ModelError(
            node.path,
            "an element-wise layer takes two tensors here",
            "Chain several of them; tfqreg.quantize(model) does",
            str([edge.shape for edge in node.inputs]),
        )
    if shapes[0] != shapes[1] and (
        len({len(shape) for shape in shapes}) > 1 or len(shapes[0]) > _RANK
    ):
        raise ModelError(
            node.path,
            f"two shapes broadcast if they have the same number of axes, {_RANK} at most",
            "Reshape one",
            str([edge.shape for edge in node.inputs]),
        )
    return names[0], names[1]


def _constant(builder: Builder, node: Node, constant: Any) -> str:
    values = np.asarray(ops.convert_to_numpy(constant), np.float64)
    values = values.reshape((1,) * (len(node.outputs[0].shape) - values.ndim) + values.shape)
    if not np.isfinite(values).all() or values.shape[0] != 1:
        raise ModelError(
            node.path,
            "a constant must be finite and the same for every sample",
            received=f"shape {values.shape}",
        )
    scale = np.array(np.abs(values).max() / 127 or 1.0, np.float32)
    codes = np.rint(values / scale).astype(np.int8)
    return builder.constant(f"{node.path}/constant", codes, Quantization(scale))


LOWERINGS: dict[str, Lowering] = {
    "Add": _arithmetic("ADD"),
    "Maximum": _extremum("MAXIMUM"),
    "Minimum": _extremum("MINIMUM"),
    "Multiply": _arithmetic("MUL"),
    "Subtract": _arithmetic("SUB"),
}
