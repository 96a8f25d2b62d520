"""Every operator of an integer graph as a TensorFlow function.

It equals the numpy operator in mode "f32", or "arm64".

The numpy operators stay the one truth: what treats elements alone becomes a table of what they
answer to every code, what moves elements is where they send the elements' positions, and what has
no fast form here calls them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.arithmetic import INT8_MAX, INT8_MIN
from ..kernels.call import Call
from ..kernels.tables import hard_swish_table, neon_rest
from ..simulator import OPERATORS
from . import sums
from .values import codes, constant, dequantize, held, quantize, tf, zero_point

Step = Callable[..., Any]  # takes the operator's activations in their order, without its constants

_CODES = np.arange(INT8_MIN, INT8_MAX + 1).astype(np.int8)


def step(call: Call) -> Step:
    """Returns an operator as a function of held values."""
    build = _BUILDERS.get(call.op.kind)
    return (build and build(call)) or _numpy(call)


def is_fast(call: Call) -> bool:
    """Returns whether an operator runs without its numpy operator."""
    build = _BUILDERS.get(call.op.kind)
    return build is not None and build(call) is not None


def _numpy(call: Call) -> Step:
    sources = [tensor for tensor in call.inputs if tensor.data is None]

    def operator(*values: np.ndarray) -> np.ndarray:
        given = iter(values)
        arguments = [next(given) if tensor.data is None else tensor.data for tensor in call.inputs]
        return held(OPERATORS[call.op.kind](call, *arguments), call.output)

    def run(*values: Any) -> Any:
        stored = [codes(x, tensor) for x, tensor in zip(values, sources, strict=True)]
        return tf.ensure_shape(
            tf.numpy_function(operator, stored, tf.float32), (None, *call.output.shape[1:])
        )

    return run


def _table(call: Call) -> Step | None:
    sources = [tensor for tensor in call.inputs if tensor.data is None]
    return {1: _table_of_one, 2: _table_of_two}[len(sources)](call, sources)


def _table_of_one(call: Call, sources: list[Any]) -> Step:
    """256 answers for each element of the constants: one, or one per channel, of most."""
    shape = np.broadcast_shapes(
        *(tensor.data.shape for tensor in call.inputs if tensor.data is not None)
    )
    places = shape[next((axis for axis, n in enumerate(shape) if n > 1), len(shape)) :]

    def argument(data: np.ndarray | None) -> np.ndarray:
        if data is None:
            return np.broadcast_to(_CODES.reshape(-1, *[1] * len(places)), (256, *places))
        return data.reshape(data.shape[max(data.ndim - len(places), 0) :])

    answers = OPERATORS[call.op.kind](call, *(argument(tensor.data) for tensor in call.inputs))
    table = constant(np.moveaxis(held(answers, call.output), 0, -1).ravel())
    first = 256 * np.arange(int(np.prod(places)), dtype=np.int32).reshape(places)
    start = first + np.int32(zero_point(sources[0]) - INT8_MIN)
    return lambda x: tf.gather(table, tf.cast(x, tf.int32) + start)


def _table_of_two(call: Call, sources: list[Any]) -> Step:
    """65,536 answers, one per pair of codes."""
    answers = OPERATORS[call.op.kind](call, np.repeat(_CODES, 256), np.tile(_CODES, 256))
    table = constant(held(answers, call.output))
    first, second = (zero_point(tensor) - INT8_MIN for tensor in sources)
    start = float(256 * first + second)
    return lambda x, y: tf.gather(table, tf.cast(256.0 * x + (y + start), tf.int32))


def _hard_swish(call: Call) -> Step | None:
    neon = call.mode == "arm64"
    if neon and neon_rest(call.output.shape):
        return None  # the last few elements are computed otherwise
    table = constant(held(hard_swish_table(call, neon), call.output))
    start = np.int32(zero_point(call.inputs[0]) - INT8_MIN)
    return lambda x: tf.gather(table, tf.cast(x, tf.int32) + start)


def _moved(call: Call) -> Step:
    """Gathers by where the numpy operator sends the positions of a sample's elements.

    Whole rows of channels move at once if it keeps those.
    """
    source, target = call.inputs[0].shape[1:], call.output.shape[1:]
    positions = np.arange(int(np.prod(source)), dtype=np.int32).reshape(1, *source)
    moved = OPERATORS[call.op.kind](call, positions, *(tensor.data for tensor in call.inputs[1:]))
    rows = moved.reshape(-1, target[-1])
    whole = source[-1] == target[-1] and (rows == rows[:, :1] + np.arange(target[-1])).all()
    width = source[-1] if whole and not (rows[:, 0] % source[-1]).any() else 1
    taken = constant(moved.reshape(-1, width)[:, 0] // width)
    shape = (-1, positions.size // width, width)
    return lambda x: tf.reshape(tf.gather(tf.reshape(x, shape), taken, axis=1), (-1, *target))


def _quantize(call: Call) -> Step | None:
    if "uint8" in (call.inputs[0].dtype, call.output.dtype):
        return lambda x: x  # codes and zero point both move by 128
    return _table(call) if call.inputs[0].dtype == "int8" else lambda x: quantize(x, call.target)


def _concatenation(call: Call) -> Step | None:
    if any(tensor.data is not None for tensor in call.inputs):
        return None
    return lambda *parts: tf.concat(parts, call.attribute("axis"))


def _add(call: Call) -> Step | None:
    if call.output.dtype == "int32":
        offset = next(tensor.data for tensor in call.inputs if tensor.data is not None)
        return lambda x: x + offset
    return _table(call)


def _gather(call: Call) -> Step | None:
    table = call.inputs[0].data
    if table is None:
        return None
    answers = constant(held(table, call.output))
    return lambda places: tf.gather(answers, places)


def _reduction(function: Callable[..., Any]) -> Callable[[Call], Step]:
    def build(call: Call) -> Step:
        axes, keep = call.inputs[1].data, call.attribute("keep_dims")
        return lambda x: function(x, axes, keep)

    return build


def _arg_max(call: Call) -> Step:
    assert call.inputs[1].data is not None
    axis = int(call.inputs[1].data.item())
    return lambda x: tf.argmax(x, axis, tf.int32)


_BUILDERS: dict[str, Callable[[Call], Step | None]] = {
    **dict.fromkeys(("SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU"), _table),
    **dict.fromkeys(("RELU", "RELU6", "LEAKY_RELU", "LOGISTIC", "TANH"), _table),
    **dict.fromkeys(
        (
            "DEPTH_TO_SPACE",
            "SPACE_TO_DEPTH",
            "STRIDED_SLICE",
            "RESIZE_NEAREST_NEIGHBOR",
            "REVERSE_V2",
        ),
        _moved,
    ),
    **dict.fromkeys(
        ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"), sums.product
    ),
    "ADD": _add,
    "ARG_MAX": _arg_max,
    "AVERAGE_POOL_2D": sums.average_pool_2d,
    "CAST": lambda call: lambda x: tf.cast(x, tf.int32) + zero_point(call.inputs[0]),
    "CONCATENATION": _concatenation,
    "DEQUANTIZE": lambda call: lambda x: dequantize(x, call.source()),
    "GATHER": _gather,
    "HARD_SWISH": _hard_swish,
    "MAX_POOL_2D": sums.max_pool_2d,
    "MEAN": sums.mean,
    "PAD": lambda call: lambda x: tf.pad(x, call.inputs[1].data),
    "QUANTIZE": _quantize,
    "REDUCE_MAX": _reduction(tf.reduce_max),
    "REDUCE_MIN": _reduction(tf.reduce_min),
    "RESHAPE": lambda call: lambda x: tf.reshape(x, (-1, *call.output.shape[1:])),
    "TRANSPOSE": lambda call: lambda x: tf.transpose(x, call.inputs[1].data),
}
