"""gemmlowp's functions of fixed-point numbers, int64 holding int32.

exp, 1 / (1 + x) and (1 - x) / (1 + x).
"""

import numpy as np

from .arithmetic import rounding_divide_by_pot, saturating_rounding_doubling_high_mul

ONE = 2**31 - 1
# exp(-2**k) for k = -2 ... 4, as Q0.31.
_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def exp_on_negative(x: np.ndarray, integer_bits: int) -> np.ndarray:
    """exp of numbers <= 0 of `integer_bits`, as Q0.31.

    A polynomial on the last quarter, and a factor per remaining bit.
    """
    quarter = 1 << (31 - integer_bits - 2)
    last = (x & (quarter - 1)) - quarter
    result = _exp_on_quarter(last << integer_bits)
    for bit, factor in enumerate(_EXP_OF_POWERS[: integer_bits + 2]):
        shrunk = saturating_rounding_doubling_high_mul(result, factor)
        result = np.where((last - x) & (quarter << bit), shrunk, result)
    return np.where(x == 0, ONE, result)


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


def one_over_one_plus(x: np.ndarray) -> np.ndarray:
    """1 / (1 + x) for x in [0, 1) in Q0.31."""
    return np.minimum(_two_over_one_plus(x) << 1, ONE)


def one_minus_over_one_plus(x: np.ndarray) -> np.ndarray:
    """(1 - x) / (1 + x) for x in [0, 1) in Q0.31."""
    return np.minimum((_two_over_one_plus(x) - (1 << 29)) << 2, ONE)


def _two_over_one_plus(x: np.ndarray) -> np.ndarray:
    """2 / (1 + x) in Q2.29: three steps of Newton and Raphson."""
    half_denominator = (x + ONE + 1) >> 1
    guess = 1515870810 + saturating_rounding_doubling_high_mul(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - saturating_rounding_doubling_high_mul(half_denominator, guess)
        guess = guess + (saturating_rounding_doubling_high_mul(guess, error) << 2)
    return guess
