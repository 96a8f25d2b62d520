"""Operations of `keras.ops` as others that have an integer form, computing the same.

sum(x)                      -> mean(x) * count
x / y                       -> x * (1 / y)
x ** 2                      -> square(x)
stack, tile                 -> concatenations
softmax or unit norm over a middle axis -> over the last one, between two transpositions
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.affine import affine_of, constant_operand
from tfqreg.graph.roles import function_name, reduced_axes

_MOST_PARTS = 4  # of a concatenation; TensorFlow Lite for Microcontrollers joins 10 at most
_OVER_THE_LAST_AXIS = ("softmax", "unit_norm")


def rewritten(operation: Any) -> Callable[..., Any] | None:
    """Returns what to call in place of an operation that is others in integers, or None."""
    if function_name(operation) in _OVER_THE_LAST_AXIS:
        return _over_last_axis(operation)
    build = _REWRITES.get(type(operation).__name__)
    return build(operation) if build else None


def _source(operation: Any) -> Any:
    return operation._inbound_nodes[0].input_tensors[0]


def _over_last_axis(operation: Any) -> Callable[..., Any] | None:
    axis = getattr(operation, "axis", -1)
    if axis == -1 or not isinstance(axis, int):
        return None
    rank = len(_source(operation).shape)
    if axis % rank in (0, rank - 1):
        return None
    order = list(range(1, rank))
    order[axis % rank - 1], order[-1] = order[-1], order[axis % rank - 1]
    ahead, after = (
        keras.layers.Permute(order, name=f"{operation.name}_{place}")
        for place in ("ahead", "after")
    )
    config = operation.get_config() | {"axis": -1}
    last = type(operation).from_config(config)
    return lambda x, **_: after(last(ahead(x)))


def _sum(operation: Any) -> Callable[..., Any] | None:
    shape = _source(operation).shape
    axes = reduced_axes(operation, len(shape))
    sizes = [shape[axis] for axis in axes]
    if None in sizes:
        return None
    times = keras.layers.Rescaling(float(np.prod(sizes)), name=operation.name)

    # A factor needs an axis of channels.
    keep = operation.keepdims or len(shape) - 1 in axes

    def total(x: Any, **_: Any) -> Any:
        scaled = times(ops.mean(x, axes, keep))
        return scaled if keep == operation.keepdims else ops.squeeze(scaled, tuple(axes))

    return total


def _quotient(operation: Any) -> Callable[..., Any] | None:
    constant = constant_operand(operation)
    if affine_of(operation) is not None or (constant is not None and np.size(constant[0]) == 1):
        return None
    if constant is None:
        return lambda x1, x2: ops.multiply(x1, ops.reciprocal(x2))
    if constant[1]:
        return lambda x1, x2: ops.multiply(ops.convert_to_numpy(x1), ops.reciprocal(x2))
    return lambda x1, x2: ops.multiply(x1, 1.0 / ops.convert_to_numpy(x2))


def _power(operation: Any) -> Callable[..., Any] | None:
    constant = constant_operand(operation)
    if constant is None or constant[1] or np.size(constant[0]) != 1:
        return None
    function = _POWERS.get(float(ops.convert_to_numpy(constant[0]).item()))
    return function and (lambda x1, x2: function(x1))


def _stack(operation: Any) -> Callable[..., Any]:
    axis = operation.axis % (len(_source(operation).shape) + 1)
    return lambda tensors: ops.concatenate([ops.expand_dims(x, axis) for x in tensors], axis)


def _tile(operation: Any) -> Callable[..., Any] | None:
    rank = len(_source(operation).shape)
    repeats = keras.tree.flatten(operation.repeats)
    repeats = [1] * (rank - len(repeats)) + repeats
    if len(repeats) > rank or repeats[0] != 1:
        return None

    def tile(x: Any, **_: Any) -> Any:
        for axis, count in enumerate(repeats):
            x = _repeated(x, count, axis)
        return x

    return tile


def _repeated(x: Any, count: int, axis: int) -> Any:
    if count == 1:
        return x
    if count <= _MOST_PARTS:
        return ops.concatenate([x] * count, axis)
    part = _repeated(x, count // _MOST_PARTS, axis)
    return ops.concatenate([part] * _MOST_PARTS + [x] * (count % _MOST_PARTS), axis)


_POWERS: dict[float, Callable[[Any], Any]] = {
    -1.0: ops.reciprocal,
    -0.5: ops.rsqrt,
    0.5: ops.sqrt,
    1.0: lambda x: x,
    2.0: ops.square,
}
_REWRITES: dict[str, Callable[[Any], Callable[..., Any] | None]] = {
    "Divide": _quotient,
    "Power": _power,
    "Stack": _stack,
    "Sum": _sum,
    "Tile": _tile,
    "TrueDivide": _quotient,
}
