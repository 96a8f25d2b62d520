"""The operators that sum, in TensorFlow: convolutions and dense layers, pools and MEAN.

A float32 sum of integers is exact below 2^24 in whatever order it is taken, as long as the products
themselves are summed: TensorFlow's convolutions on a CPU do that (no Winograd, no FFT).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernels.arithmetic import INT8_MAX, INT8_MIN
from ..kernels.call import Call
from ..kernels.pooling import means_of_all_sums
from ..kernels.windows import windows
from .values import activated, constant, held, tf, zero_point

Step = Callable[..., Any]

_MOST_IN_A_TABLE = 1 << 12  # pixels of a mean: 4 MiB of answers
_EXACT_IN_FLOAT32 = 1 << 24  # below it, float32 holds every integer
_LARGEST_ACCUMULATOR = 1 << 31  # below it, int32 does, which is what runtimes sum in


def product(call: Call) -> Step | None:
    """CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED or TRANSPOSE_CONV.

    None if only the numpy operator fits.
    """
    if call.op.kind == "TRANSPOSE_CONV":  # it takes its output's shape first
        call = replace(call, inputs=(call.inputs[2], call.inputs[1], *call.inputs[3:]))
    source, weights, bias = call.inputs[0], _data(call, 1), _data(call, 2)
    if weights is None or (bias is None and len(call.inputs) > 2):
        return None
    channels = weights.shape[_channel_axis(call)]
    bias = np.zeros(channels, np.int32) if bias is None else bias
    rows = np.moveaxis(weights, _channel_axis(call), 0).reshape(channels, -1)
    sums = np.abs(rows.astype(np.int64)).sum(1)
    largest = int(sums.max()) * _largest_value(zero_point(source))
    with_bias = largest + int(np.abs(bias.astype(np.int64)).max())
    multiply = _multiplication(
        call, weights.astype(np.float32 if largest < _EXACT_IN_FLOAT32 else np.float64)
    )
    if multiply is None or with_bias >= _LARGEST_ACCUMULATOR:
        return None
    # XNNPACK rounds the accumulator to float32 once, which the sum in float64 does as well.
    offset = constant(bias.astype(np.float32 if with_bias < _EXACT_IN_FLOAT32 else np.float64))
    scale = constant(call.source().scale * call.source(1).scale / call.target.scale)

    def run(x: Any) -> Any:
        total = tf.cast(multiply(x), offset.dtype) + offset
        return activated(call, tf.round(tf.cast(total, tf.float32) * scale))

    return run


def _data(call: Call, position: int) -> np.ndarray | None:
    return call.inputs[position].data if position < len(call.inputs) else None


def _channel_axis(call: Call) -> int:
    return 3 if call.op.kind == "DEPTHWISE_CONV_2D" else 0


def _largest_value(zero: int) -> int:
    return max(INT8_MAX - zero, zero - INT8_MIN)


def _multiplication(call: Call, weights: np.ndarray) -> Step | None:
    if call.op.kind == "FULLY_CONNECTED":
        matrix = constant(weights.T)
        shape = call.output.shape[1:]
        return lambda x: tf.reshape(
            tf.matmul(tf.cast(tf.reshape(x, (-1, weights.shape[1])), matrix.dtype), matrix),
            (-1, *shape),
        )
    if call.op.kind == "TRANSPOSE_CONV":
        return _transposed(call, weights)
    stride, dilation = call.attribute("stride"), call.attribute("dilation", (1, 1))
    window = {"strides": (1, *stride, 1), "padding": call.attribute("padding")}
    if call.op.kind == "CONV_2D":
        kernel = constant(weights.transpose(1, 2, 3, 0))
        return lambda x: tf.nn.conv2d(
            tf.cast(x, kernel.dtype), kernel, dilations=dilation, **window
        )
    if stride[0] != stride[1] or (stride != (1, 1) and dilation != (1, 1)):
        return None  # TensorFlow has no such depthwise convolution
    channels = call.inputs[0].shape[-1]
    kernel = constant(weights.reshape(*weights.shape[1:3], channels, -1))
    return lambda x: tf.nn.depthwise_conv2d(
        tf.cast(x, kernel.dtype), kernel, dilations=dilation, **window
    )


def _transposed(call: Call, weights: np.ndarray) -> Step:
    kernel = constant(weights.transpose(1, 2, 0, 3))
    stride, padding, shape = (
        call.attribute("stride"),
        call.attribute("padding"),
        call.output.shape[1:],
    )
    return lambda x: tf.nn.conv2d_transpose(
        tf.cast(x, kernel.dtype), kernel, (tf.shape(x)[0], *shape), (1, *stride, 1), padding
    )


def max_pool_2d(call: Call) -> Step:
    """The largest element of each window."""
    window, stride, padding = (call.attribute(name) for name in ("filter", "stride", "padding"))
    return lambda x: activated(call, tf.nn.max_pool2d(x, window, stride, padding))


def average_pool_2d(call: Call) -> Step:
    """The sum of each window, rounded to the integer it is, divided half away from zero."""
    window, stride, padding = (call.attribute(name) for name in ("filter", "stride", "padding"))
    # What padding adds is left out of both the average and the count.
    count = windows(
        np.ones((1, *call.inputs[0].shape[1:3], 1), np.int32), window, stride, padding
    ).sum((3, 4))
    zero = zero_point(call.inputs[0])

    def run(x: Any) -> Any:
        total = tf.cast(
            tf.round(tf.nn.avg_pool2d(x, window, stride, padding) * count.astype(np.float32)),
            tf.int32,
        )
        total += zero * count
        mean = tf.sign(total) * ((tf.abs(total) + count // 2) // count)
        return activated(call, tf.cast(mean - zero, tf.float32), xnnpack=False)

    return run


def mean(call: Call) -> Step | None:
    """XNNPACK's: the sum of the codes in float32, times one factor, plus one offset.

    A table of all sums where those are rounded together, which TensorFlow has no function for.
    """
    axes = _data(call, 1)
    shape = call.inputs[0].shape
    if axes is None:
        return None
    over = [int(axis) % len(shape) for axis in np.ravel(axes)]
    count = int(np.prod([shape[axis] for axis in over]))
    if 0 in over or count << 8 >= _EXACT_IN_FLOAT32:
        return None
    if call.mode == "arm64":
        return _mean_table(call, over, count) if count <= _MOST_IN_A_TABLE else None
    source, target, number = call.source(), call.target, np.float32(count)
    scale = source.scale[0] / target.scale[0] * (np.float32(1) / number)
    offset = np.float32(target.zero_point) - np.float32(source.zero_point) * number * scale

    def run(x: Any) -> Any:
        total = tf.reduce_sum(x, over, keepdims=call.attribute("keep_dims")) + float(
            source.zero_point * count
        )
        return activated(call, tf.round(total * scale + offset) - float(target.zero_point))

    return run


def _mean_table(call: Call, over: list[int], count: int) -> Step:
    table = constant(held(means_of_all_sums(call, count), call.output))
    start = float((zero_point(call.inputs[0]) - INT8_MIN) * count)
    keep = call.attribute("keep_dims")
    return lambda x: tf.gather(table, tf.cast(tf.reduce_sum(x, over, keep) + start, tf.int32))
