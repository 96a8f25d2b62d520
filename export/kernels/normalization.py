"""L2_NORMALIZATION: a vector over its length, in one arithmetic in all runtimes."""

import numpy as np

from .arithmetic import (
    multiply_by_quantized_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from .call import Call

_OUTPUT_BITS = 7  # the output has scale 1/128 and zero point 0
_HALF_SQRT_2 = 1518500250  # in Q0.31
_ONE, _ONE_AND_A_HALF = 1 << 28, (1 << 28) + (1 << 27)  # in Q3.28


def l2_normalization(call: Call, x: np.ndarray) -> np.ndarray:
    """x / sqrt(sum(x^2)) over the last axis."""
    centred = x.astype(np.int64) - call.source().zero_point
    multiplier, shift = inverse_sqrt(np.square(centred).sum(-1, keepdims=True))
    return call.clamp(multiply_by_quantized_multiplier(centred, multiplier, shift + _OUTPUT_BITS))


def inverse_sqrt(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 / sqrt(total) as `multiplier * 2**(shift - 31)`, 0 taken for 1; int64 holding int32.

    TFLite's GetInvSqrtQuantizedMultiplierExp: five steps of Newton and Raphson in Q3.28.

    Example:
        >>> multiplier, shift = inverse_sqrt(np.array([4]))
        >>> (multiplier * 2.0 ** (shift - 31)).round(8).tolist()
        [0.5]
    """
    large = total >= 1 << 29
    reduced, right = np.where(large, total // 4, total), np.where(large, 12, 11)
    width = np.frexp(np.maximum(reduced, 1).astype(np.float64))[1]
    pairs = (31 - width) // 2 - 1
    reduced, right = reduced << (2 * pairs), right - pairs
    half = rounding_divide_by_pot(reduced >> 1, 1)
    x = np.full_like(reduced, _ONE)
    for _ in range(5):
        square = saturating_rounding_doubling_high_mul(x, x)
        cube = _saturating_shift(saturating_rounding_doubling_high_mul(square, x), 6)
        step = saturating_rounding_doubling_high_mul(x, _ONE_AND_A_HALF)
        x = _saturating_shift(step - saturating_rounding_doubling_high_mul(half, cube), 3)
    x = saturating_rounding_doubling_high_mul(x, _HALF_SQRT_2)
    x, right = x << np.maximum(-right, 0), np.maximum(right, 0)
    tiny = total <= 1
    return np.where(tiny, 2**31 - 1, x), np.where(tiny, 0, -right)


def _saturating_shift(x: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(x << bits, -(2**31), 2**31 - 1)
