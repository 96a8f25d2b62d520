"""SOFTMAX, int8 to int8: a table, of float32 on x86-64, of 16 bits on arm64.

The reference kernels take gemmlowp's fixed point. All depend on an element's distance below its
row's maximum, 0 to 255, so all are tables of 256 entries. If a row's exponentials sum to 512 or
more (hundreds of equal scores) the reference kernel shifts by more than 31 bits, which C leaves
undefined; here the result is the intended one.
"""

import numpy as np

from .arithmetic import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    quantize_multipliers,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from .call import Call
from .fixed_point import exp_on_negative, one_over_one_plus

_DISTANCES = np.arange(256)
_MAX_UINT16 = 2**16 - 1
_INPUT_BITS, _SUM_BITS = 5, 12  # integer bits of an argument and of a sum, as in TFLite


def softmax(call: Call, x: np.ndarray) -> np.ndarray:
    """exp(beta * x) over its sum, along the last axis.

    The output has scale 1/256 and zero point -128.
    """
    distance = x.max(-1, keepdims=True).astype(np.int64) - x
    scale, beta = call.source().scale[0], call.attribute("beta", 1.0)
    if call.reference:
        return _fixed_point(distance, float(scale) * beta)
    table = _int16_table if call.mode == "arm64" else _float_table
    return table(distance, scale * np.float32(beta), call)


def _powers(scale: np.float32) -> np.ndarray:
    """exp(-scale * distance) of every distance, of a float32, rounded once as a good expf does."""
    return np.exp((-scale * _DISTANCES.astype(np.float32)).astype(np.float64)).astype(np.float32)


def _float_table(distance: np.ndarray, scale: np.float32, call: Call) -> np.ndarray:
    powers = _powers(scale)[distance]
    # Accumulated left to right, as the kernel's loop does.
    total = np.add.accumulate(powers, -1)[..., -1:]
    fraction = powers * (np.float32(1) / (total * call.target.scale[0]))
    return call.clamp(np.floor(fraction + np.float32(0.5)) + np.float32(call.target.zero_point))


def _int16_table(distance: np.ndarray, scale: np.float32, call: Call) -> np.ndarray:
    """Powers of 16 bits, so that their sum has no order; gemmlowp's multiplier of its inverse."""
    rounded = np.floor((_powers(scale) * np.float32(_MAX_UINT16)).astype(np.float64) + 0.5)
    powers = np.minimum(rounded, _MAX_UINT16).astype(np.int64)[distance]
    total = powers.sum(-1, keepdims=True).astype(np.float32)
    multiplier, shift = quantize_multipliers(np.float32(1) / (total * call.target.scale[0]))
    fraction = multiply_by_quantized_multiplier(powers, multiplier, shift)
    return call.clamp(fraction + call.target.zero_point)


def _fixed_point(distance: np.ndarray, scale: float) -> np.ndarray:
    multiplier, shift = quantize_multiplier(min(scale * 2.0 ** (31 - _INPUT_BITS), 2.0**31 - 1))
    farthest = ((2**_INPUT_BITS - 1) << (31 - _INPUT_BITS)) >> shift
    near = farthest >= _DISTANCES
    arguments = multiply_by_quantized_multiplier(-_DISTANCES * near, multiplier, shift)
    powers = np.where(near, exp_on_negative(arguments, _INPUT_BITS), 0)
    total = np.where(near, rounding_divide_by_pot(powers, _SUM_BITS), 0)[distance].sum(
        -1, keepdims=True
    )
    headroom = 32 - np.frexp(total.astype(np.float64))[1]
    reciprocal = one_over_one_plus((total << headroom) - 2**31)
    fraction = saturating_rounding_doubling_high_mul(powers[distance], reciprocal)
    codes = rounding_divide_by_pot(fraction, _SUM_BITS - headroom + 31 - 8) - 128
    return np.where(near[distance], np.clip(codes, -128, 127), -128).astype(np.int8)
