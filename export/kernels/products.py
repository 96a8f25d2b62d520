"""The operators that multiply by weights.

CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV.

Sums of integers are exact in float32 below 2**24 and in float64 below 2**53, so BLAS computes the
products.
"""

from dataclasses import replace

import numpy as np

from .arithmetic import (
    multiply_by_quantized_multiplier,
    quantize_multipliers,
    requantize_f32,
    round_half_away,
    wrap_int32,
)
from .call import Call
from .windows import windows

_LARGEST_INPUT = 255  # of an int8 code less its zero point


def conv_2d(call: Call, x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x (n, h, w, groups * c), weights (o, kh, kw, c), bias (o,).

    Output channels are split among the groups.
    """
    channels, high, wide, depth = weights.shape
    rows = weights.reshape(channels, -1)
    centred = _centre(call, x, rows, bias)
    view = _windows(call, centred, (high, wide))
    groups = x.shape[3] // depth
    sums = [
        view[..., i * depth : (i + 1) * depth].reshape(-1, rows.shape[1])
        @ part.T.astype(centred.dtype)
        for i, part in enumerate(np.split(rows, groups))
    ]
    total = sums[0] if groups == 1 else np.concatenate(sums, 1)
    return _finish(call, total.reshape(*view.shape[:3], channels), bias)


def depthwise_conv_2d(
    call: Call, x: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """x (n, h, w, c), weights (1, kh, kw, c * multiplier), bias (c * multiplier,)."""
    _, high, wide, channels = weights.shape
    taps = weights.reshape(high * wide, -1)
    centred = _centre(call, x, taps.T, bias)
    view = _windows(call, np.repeat(centred, channels // x.shape[3], axis=3), (high, wide))
    total = np.zeros((*view.shape[:3], channels), centred.dtype)
    for i in range(high):
        for j in range(wide):
            total += view[:, :, :, i, j] * weights[0, i, j].astype(centred.dtype)
    return _finish(call, total, bias)


def fully_connected(
    call: Call, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """x flattened to (rows, inputs), weights (units, inputs), bias (units,) or none."""
    centred = _centre(call, x.reshape(-1, weights.shape[1]), weights, bias)
    result = _finish(call, centred @ weights.T.astype(centred.dtype), bias)
    return result.reshape(len(x), *call.output.shape[1:])


def transpose_conv(
    call: Call, shape: np.ndarray, weights: np.ndarray, x: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Every pixel of x adds its multiple of the weights to an output of `shape`.

    x (n, h, w, c), weights (o, kh, kw, c), bias (o,).
    """
    call = replace(call, inputs=(call.inputs[2], call.inputs[1]))
    channels, high, wide, _ = weights.shape
    (rows, columns), (down, across), size = x.shape[1:3], call.attribute("stride"), shape[1:3]
    centred = _centre(call, x, weights.reshape(channels, -1), bias)
    full = (rows - 1) * down + high, (columns - 1) * across + wide
    same = call.attribute("padding") == "SAME"
    top, left = (max(n - int(m), 0) // 2 if same else 0 for n, m in zip(full, size, strict=True))
    extent = max(full[0], top + size[0]), max(full[1], left + size[1])
    total = np.zeros((len(x), *extent, channels), centred.dtype)
    for i in range(high):
        for j in range(wide):
            taps = weights[:, i, j].T.astype(centred.dtype)
            total[:, i : i + rows * down : down, j : j + columns * across : across] += (
                centred @ taps
            )
    return _finish(call, total[:, top : top + size[0], left : left + size[1]], bias)


def _windows(call: Call, x: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    stride, dilation = call.attribute("stride"), call.attribute("dilation", (1, 1))
    return windows(x, window, stride, call.attribute("padding"), dilation)


def _largest_sum(rows: np.ndarray, bias: np.ndarray | None) -> int:
    """A bound on every partial sum, rows being (channels, products)."""
    sums = np.abs(rows.astype(np.int64)).sum(1) * _LARGEST_INPUT
    return int((sums if bias is None else sums + np.abs(bias.astype(np.int64))).max())


def _centre(call: Call, x: np.ndarray, rows: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """`x - zero_point`, in the narrowest float that keeps every sum exact."""
    exact = np.float32 if _largest_sum(rows, bias) < 1 << 24 else np.float64
    return x.astype(exact) - exact(call.source().zero_point)


def _finish(call: Call, total: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Adds the bias and brings the sums to the output's scale."""
    if bias is not None:
        total += bias.astype(total.dtype)
    if total.dtype == np.float64:
        # The runtimes' accumulators are int32.
        total = wrap_int32(total.astype(np.int64))
    if not call.reference:
        scale = call.source().scale * call.source(1).scale / call.target.scale
        return call.clamp(requantize_f32(total, scale, call.target.zero_point))
    if call.mode == "ref-new" and call.op.kind == "FULLY_CONNECTED":
        return call.clamp(round_half_away(total * _double_scale(call)) + call.target.zero_point)
    multiplier, shift = quantize_multipliers(_real_scale(call))
    product = multiply_by_quantized_multiplier(total.astype(np.int64), multiplier, shift)
    return call.clamp(product + call.target.zero_point)


def _real_scale(call: Call) -> np.ndarray:
    source, weights = call.source().scale, call.source(1).scale
    # Per-tensor FULLY_CONNECTED has GetQuantizedConvolutionMultipler, which multiplies the scales
    # in float32.
    if call.op.kind == "FULLY_CONNECTED" and weights.size == 1:
        return (source * weights).astype(np.float64) / call.target.scale.astype(np.float64)
    return _double_scale(call)


def _double_scale(call: Call) -> np.ndarray:
    source, weights, target = (
        q.scale.astype(np.float64) for q in (call.source(), call.source(1), call.target)
    )
    return source * weights / target
