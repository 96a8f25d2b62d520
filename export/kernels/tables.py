"""The operators that map one int8 code to another by a curve.

LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, PRELU.

Each result depends on one code alone (PRELU: and on its slope), so the first three are tables of
256 entries. HARD_SWISH and PRELU have one arithmetic in all runtimes.
"""

import math
from collections.abc import Callable

import numpy as np

from .arithmetic import (
    INT8_MAX,
    INT8_MIN,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
)
from .call import Call
from .fixed_point import ONE, exp_on_negative, one_minus_over_one_plus, one_over_one_plus

_NEON_LANES = 8  # of 16 bits each
_CODES = np.arange(INT8_MIN, INT8_MAX + 1)
_INTEGER_BITS = 4  # of the argument of TFLite's int8 LOGISTIC and TANH
_INT16_MIN, _INT16_MAX = -(2**15), 2**15 - 1
# Ratios of scales that XNNPACK's qs8-vlrelu takes; what is outside runs on the built-in kernel.
_SMALLEST_RATIO, _LARGEST_RATIO, _LARGEST_NEGATIVE_RATIO = 2.0**-8, 2.0**7, 127.99609375


def logistic(call: Call, x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)); the output has scale 1/256 and zero point -128."""
    if call.mode == "ref-micro":
        return _fixed_point(call, _logistic_fixed, 8)[_positions(x)]
    return _float_table(call, _logistic_f32 if call.reference else _logistic_f64)[_positions(x)]


def tanh(call: Call, x: np.ndarray) -> np.ndarray:
    """tanh(x); the output has scale 1/128 and zero point 0."""
    if call.mode == "ref-micro":
        return _fixed_point(call, _tanh_fixed, 7)[_positions(x)]
    return _float_table(call, lambda v: np.tanh(v.astype(np.float64)).astype(np.float32))[
        _positions(x)
    ]


def _positions(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int64) - INT8_MIN


def _fixed_point(call: Call, function: Callable[[np.ndarray], np.ndarray], bits: int) -> np.ndarray:
    """A gemmlowp function of every code, as Q4.27 in and Q0.31 out.

    What is farther than 15 from zero saturates.
    """
    source, target = call.source(), call.target
    multiplier, shift = quantize_multiplier(float(source.scale[0]) * 2.0 ** (31 - _INTEGER_BITS))
    radius = ((2**_INTEGER_BITS - 1) << (31 - _INTEGER_BITS)) >> shift
    centred = _CODES - source.zero_point
    near = np.abs(centred) < radius
    values = function(multiply_by_quantized_multiplier(centred * near, multiplier, shift))
    codes = rounding_divide_by_pot(values, 31 - bits) + target.zero_point
    return call.clamp(np.where(near, codes, np.where(centred > 0, INT8_MAX, INT8_MIN)))


def _logistic_fixed(x: np.ndarray) -> np.ndarray:
    positive = one_over_one_plus(exp_on_negative(-np.abs(x), _INTEGER_BITS))
    return np.where(x == 0, 1 << 30, np.where(x > 0, positive, ONE - positive))


def _tanh_fixed(x: np.ndarray) -> np.ndarray:
    # 2 |x| is |x| with one integer bit more.
    positive = one_minus_over_one_plus(exp_on_negative(-np.abs(x), _INTEGER_BITS + 1))
    return np.where(x == 0, 0, np.sign(x) * positive)


def _logistic_f32(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        power = np.exp(-x.astype(np.float64)).astype(
            np.float32
        )  # rounded once, as a good expf does
    return np.float32(1) / (np.float32(1) + power)


def _logistic_f64(x: np.ndarray) -> np.ndarray:
    power = np.exp(np.clip(x, -100, 100).astype(np.float64))
    return (power / (1 + power)).astype(np.float32)


def _float_table(call: Call, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A float32 function of every code, rounded as the runtime does."""
    source, target = call.source(), call.target
    values = function(source.scale[0] * (_CODES - source.zero_point).astype(np.float32))
    values = values * (np.float32(1) / target.scale[0])
    if call.reference:
        return call.clamp(round_half_away(values) + target.zero_point)
    values = values + np.float32(target.zero_point)
    # TensorFlow 2.21 has an older XNNPACK, whose quantize() is std::round.
    return call.clamp(round_half_away(values) if call.mode == "f32-tf" else np.rint(values))


def hard_swish(call: Call, x: np.ndarray) -> np.ndarray:
    """x * min(max(x + 3, 0), 6) / 6 in 16-bit fixed point."""
    result = hard_swish_table(call, call.mode == "arm64")[_positions(x)]
    # NEON takes eight elements at a time, portable code the last few of a sample.
    if call.mode == "arm64" and (rest := neon_rest(x.shape)):
        rows, last = result.reshape(len(x), -1), _positions(x).reshape(len(x), -1)[:, -rest:]
        rows[:, -rest:] = hard_swish_table(call, neon=False)[last]
    return result


def neon_rest(shape: tuple[int, ...]) -> int:
    """The elements of a sample, of a tensor (batch, ...), that NEON's vectors leave over."""
    return math.prod(shape[1:]) % _NEON_LANES


def hard_swish_table(call: Call, neon: bool) -> np.ndarray:
    """The answer to every code; NEON's instructions round half up where C rounds half away."""
    source, target = call.source(), call.target
    divide = _rounding_shift_right if neon else rounding_divide_by_pot
    fine_scale = np.float32(1 / 128) * source.scale[0]
    factor, exponent = _int16_multiplier(fine_scale / target.scale[0])
    slope, slope_exponent = _int16_multiplier(fine_scale / np.float32(3 / 2**15))
    fine = (_CODES - source.zero_point) * 128
    output = _rounding_doubling_high_mul_int16(fine, factor)
    # x / 3 in [-1, 1]: the last bit of a left shift comes after the multiplication, and saturates
    # there.
    share = _saturate_int16(fine << max(slope_exponent - 1, 0))
    share = _rounding_doubling_high_mul_int16(share, slope)
    if slope_exponent > 0:
        share = _saturate_int16(share << 1)
    share = divide(share, max(-slope_exponent, 0))
    product = ((share + 2**15) >> 1) * output
    # C's division truncates.
    product = product >> 15 if neon else np.sign(product) * (np.abs(product) >> 15)
    return call.clamp(divide(product, -exponent) + target.zero_point)


def _rounding_shift_right(x: np.ndarray, exponent: int) -> np.ndarray:
    """`round(x / 2**exponent)`, half up."""
    return (x + (1 << exponent >> 1)) >> exponent


def _int16_multiplier(real: np.float32) -> tuple[int, int]:
    multiplier, shift = quantize_multiplier(float(real))
    return min((multiplier + 2**15) >> 16, _INT16_MAX), shift


def _saturate_int16(x: np.ndarray) -> np.ndarray:
    return np.clip(x, _INT16_MIN, _INT16_MAX)


def _rounding_doubling_high_mul_int16(x: np.ndarray, factor: int) -> np.ndarray:
    """`round(x * factor / 2**15)`, half up, with factor >= 0."""
    return (x * factor + 2**14) >> 15


def leaky_relu(call: Call, x: np.ndarray) -> np.ndarray:
    """x where x >= 0 and alpha * x elsewhere."""
    source, target = call.source(), call.target
    centred = x.astype(np.int64) - source.zero_point
    ratio = source.scale[0] / target.scale[0]
    slope = ratio * np.float32(call.attribute("alpha"))
    xnnpack = (
        _SMALLEST_RATIO <= ratio <= _LARGEST_RATIO
        and -_LARGEST_NEGATIVE_RATIO <= slope <= _LARGEST_RATIO
        and abs(slope) >= _SMALLEST_RATIO
    )
    if call.reference or not xnnpack:
        negative = _signed_multiply(
            centred, float(source.scale[0] * np.float32(call.attribute("alpha")) / target.scale[0])
        )
        result = np.where(
            centred >= 0,
            multiply_by_quantized_multiplier(centred, *quantize_multiplier(float(ratio))),
            negative,
        )
    else:
        factors = [int(np.rint(np.float32(256) * r)) for r in (ratio, slope)]
        result = (centred * np.where(centred >= 0, *factors) + 128) >> 8
    return call.clamp(result + target.zero_point)


def _signed_multiply(x: np.ndarray, real: float) -> np.ndarray:
    multiplier, shift = quantize_multiplier(abs(real))
    return multiply_by_quantized_multiplier(x, multiplier if real >= 0 else -multiplier, shift)


def prelu(call: Call, x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """x where x >= 0 and alpha * x elsewhere, alpha broadcast."""
    source, slope, target = call.source(), call.source(1), call.target
    centred = x.astype(np.int64) - source.zero_point
    ratio = source.scale[0] / target.scale[0]
    slope_ratio = source.scale[0] * slope.scale[0] / target.scale[0]
    positive = multiply_by_quantized_multiplier(centred, *quantize_multiplier(float(ratio)))
    product = centred * (alpha.astype(np.int64) - slope.zero_point)
    negative = multiply_by_quantized_multiplier(product, *quantize_multiplier(float(slope_ratio)))
    return call.clamp(np.where(centred >= 0, positive, negative) + target.zero_point)
