"""The operators that shrink an image without weights: MAX_POOL_2D, AVERAGE_POOL_2D, MEAN."""

import numpy as np

from .arithmetic import (
    INT8_MAX,
    INT8_MIN,
    fused_multiply_add,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
)
from .call import Call
from .windows import windows


def max_pool_2d(call: Call, x: np.ndarray) -> np.ndarray:
    """The largest element of each window; padding never wins."""
    return call.clamp(_windows(call, x, -128).max((3, 4)))


def average_pool_2d(call: Call, x: np.ndarray) -> np.ndarray:
    """The integer mean of each window's real elements, half away from zero."""
    total = _windows(call, x.astype(np.int32), 0).sum((3, 4))
    count = _windows(call, np.ones((1, *x.shape[1:3], 1), np.int32), 0).sum((3, 4))
    half = np.where(total > 0, count // 2, -(count // 2))
    # C's division truncates.
    return call.clamp(np.sign(total) * (np.abs(total + half) // count), xnnpack=False)


def mean(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The mean over `axes`, brought to the output's own scale."""
    over = tuple(int(a) % x.ndim for a in np.ravel(axes))
    count = int(np.prod([x.shape[a] for a in over]))
    total = x.astype(np.int64).sum(over, keepdims=call.attribute("keep_dims"))
    return mean_of_sum(call, total, count)


def mean_of_sum(call: Call, total: np.ndarray, count: int) -> np.ndarray:
    """The mean of `count` codes by their sum."""
    mean = _mean_ref if call.reference else _mean_f32
    return call.clamp(mean(call, total, count))


def means_of_all_sums(call: Call, count: int) -> np.ndarray:
    """The mean of `count` codes for each sum that they can have, the lowest first."""
    return mean_of_sum(call, np.arange(INT8_MIN * count, INT8_MAX * count + 1), count)


def _mean_f32(call: Call, total: np.ndarray, count: int) -> np.ndarray:
    """XNNPACK's: the zero points become one float32 offset, so both are rounded together."""
    source, target, number = call.source(), call.target, np.float32(count)
    scale = source.scale[0] / target.scale[0] * (np.float32(1) / number)
    zero_point, zero_points = np.float32(target.zero_point), np.float32(source.zero_point) * number
    if call.mode == "arm64":  # whose compiler fuses a product and a sum into one rounding
        offset = fused_multiply_add(-zero_points, scale, zero_point)
        return np.rint(fused_multiply_add(total, scale, offset))
    offset = zero_point - zero_points * scale
    result = total.astype(np.float32) * scale + offset
    # TensorFlow 2.21 has an older XNNPACK, whose quantize() is std::round.
    return round_half_away(result) if call.mode == "f32-tf" else np.rint(result)


def _mean_ref(call: Call, total: np.ndarray, count: int) -> np.ndarray:
    source, target = call.source(), call.target
    multiplier, shift = _divide(
        *quantize_multiplier(float(source.scale[0]) / float(target.scale[0])), count
    )
    centred = total - source.zero_point * count
    return multiply_by_quantized_multiplier(centred, multiplier, shift) + target.zero_point


def _divide(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """Divides a fixed-point factor, keeping as many bits as fit.

    int32 and the largest right shift bound them.
    """
    kept = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << kept) // count, shift - kept


def _windows(call: Call, x: np.ndarray, fill: int) -> np.ndarray:
    stride, padding = call.attribute("stride"), call.attribute("padding")
    return windows(x, call.attribute("filter"), stride, padding, fill=fill)
