"""SOFTMAX, int8 to int8: a float table by default, gemmlowp's fixed point in the reference kernels.

Both depend on an element's distance below its row's maximum, 0 to 255, so both are tables of 256 entries.
Where a row's exponentials sum to 512 or more (hundreds of equal scores) the reference kernel shifts by more
than 31 bits, which C leaves undefined; here the result is the intended one.
"""

import numpy as np

from .arithmetic import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from .call import Call

_DISTANCES = np.arange(256)
_INPUT_BITS, _SUM_BITS = 5, 12
_ONE = 2**31 - 1
# exp(-2**k) for k = -2 ... 4, as Q0.31 (gemmlowp, exp_on_negative_values).
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def softmax(call: Call, x: np.ndarray) -> np.ndarray:
    """exp(beta * x) over its sum, along the last axis; the output has scale 1/256 and zero point -128."""
    distance = x.max(-1, keepdims=True).astype(np.int64) - x
    scale, beta = call.source().scale[0], call.attribute("beta", 1.0)
    if call.reference:
        return _fixed_point(distance, float(scale) * beta)
    return _float_table(distance, scale * np.float32(beta), call)


def _float_table(distance: np.ndarray, scale: np.float32, call: Call) -> np.ndarray:
    # The argument is a float32; its exponential is rounded once, as a good expf does.
    arguments = (-scale * _DISTANCES.astype(np.float32)).astype(np.float64)
    powers = np.exp(arguments).astype(np.float32)[distance]
    # Accumulated left to right, as the kernel's loop does.
    total = np.add.accumulate(powers, -1)[..., -1:]
    share = powers * (np.float32(1) / (total * call.target.scale[0]))
    return call.clamp(np.floor(share + np.float32(0.5)) + np.float32(call.target.zero_point))


def _fixed_point(distance: np.ndarray, scale: float) -> np.ndarray:
    multiplier, shift = quantize_multiplier(min(scale * 2.0 ** (31 - _INPUT_BITS), 2.0**31 - 1))
    farthest = ((2**_INPUT_BITS - 1) << (31 - _INPUT_BITS)) >> shift
    near = farthest >= _DISTANCES
    arguments = multiply_by_quantized_multiplier(-_DISTANCES * near, multiplier, shift)
    powers = np.where(near, _exp_on_negative(arguments), 0)
    total = np.where(near, rounding_divide_by_pot(powers, _SUM_BITS), 0)[distance].sum(-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1]
    reciprocal = _one_over_one_plus((total << headroom) - 2**31)
    share = saturating_rounding_doubling_high_mul(powers[distance], reciprocal)
    codes = rounding_divide_by_pot(share, _SUM_BITS - headroom + 31 - 8) - 128
    return np.where(near[distance], np.clip(codes, -128, 127), -128).astype(np.int8)


def _exp_on_negative(x: np.ndarray) -> np.ndarray:
    """exp of Q5.26 numbers <= 0, as Q0.31: a polynomial on the last quarter, a factor per remaining bit."""
    quarter = 1 << (31 - _INPUT_BITS - 2)
    last = (x & (quarter - 1)) - quarter
    result = _exp_on_quarter(last << _INPUT_BITS)
    for bit, factor in enumerate(_EXP_OF_POWERS):
        shrunk = saturating_rounding_doubling_high_mul(result, factor)
        result = np.where((last - x) & (quarter << bit), shrunk, result)
    return np.where(x == 0, _ONE, result)


def _exp_on_quarter(x: np.ndarray) -> np.ndarray:
    """exp on [-1/4, 0) in Q0.31: Taylor's series of the fourth order about -1/8."""
    exp_of_minus_eighth, third = 1895147668, 715827883
    x = x + (1 << 28)
    square = saturating_rounding_doubling_high_mul(x, x)
    cube = saturating_rounding_doubling_high_mul(square, x)
    fourth = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(square, square), 2)
    tail = saturating_rounding_doubling_high_mul(fourth + cube, third) + square
    series = x + rounding_divide_by_pot(tail, 1)
    return exp_of_minus_eighth + saturating_rounding_doubling_high_mul(series, exp_of_minus_eighth)


def _one_over_one_plus(x: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for x in [0, 1) in Q0.31: three steps of Newton and Raphson in Q2.29."""
    half_denominator = (x + _ONE + 1) >> 1
    guess = 1515870810 + saturating_rounding_doubling_high_mul(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - saturating_rounding_doubling_high_mul(half_denominator, guess)
        guess = guess + (saturating_rounding_doubling_high_mul(guess, error) << 2)
    return np.minimum(guess << 1, _ONE)
