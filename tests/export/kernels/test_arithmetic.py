"""Numbers by hand for the scalar arithmetic."""

import numpy as np
import pytest

from tfqreg.export.ir import Quantization
from tfqreg.export.kernels.arithmetic import (
    activation_bounds,
    clamp_int8,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    quantize_multipliers,
    requantize_f32,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap_int32,
)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.5, (2**30, 0)),
        (1.0, (2**30, 1)),
        (0.75, (3 * 2**29, 0)),
        (0.1, (1717986918, -3)),  # 0.8 * 2**31 = 1717986918.4
        (1 - 2.0**-40, (2**30, 1)),  # rounds up to 2**31, which does not fit
        (2.0**-32, (2**30, -31)),
        (2.0**-33, (0, 0)),  # no int32 is moved by it
        (0.0, (0, 0)),
    ],
)
def test_quantize_multiplier(real, expected):
    assert quantize_multiplier(real) == expected


def test_quantize_multipliers_keeps_the_shape():
    multiplier, shift = quantize_multipliers(np.array([[0.5, 3.0]]))
    assert multiplier.tolist() == [[2**30, 3 * 2**29]]
    assert shift.tolist() == [[0, 2]]


def test_high_mul_rounds_half_up_and_saturates():
    # x * 2**30 / 2**31 = x / 2
    assert saturating_rounding_doubling_high_mul(np.array([3, -3, 4, 0]), 2**30).tolist() == [
        2,
        -1,
        2,
        0,
    ]
    low = np.array([-(2**31)])
    assert saturating_rounding_doubling_high_mul(low, low).tolist() == [2**31 - 1]


def test_divide_by_pot_rounds_half_away():
    x = np.array([5, -5, 3, -2, -3, 7])
    assert rounding_divide_by_pot(x, 1).tolist() == [3, -3, 2, -1, -2, 4]
    assert rounding_divide_by_pot(x, 2).tolist() == [1, -1, 1, -1, -1, 2]
    assert rounding_divide_by_pot(x, 0).tolist() == x.tolist()


def test_multiplier_shifts_left_and_right():
    assert multiply_by_quantized_multiplier(
        np.array([1000, -1000]), *quantize_multiplier(0.3)
    ).tolist() == [
        300,
        -300,
    ]
    assert multiply_by_quantized_multiplier(
        np.array([3, -3]), *quantize_multiplier(2.5)
    ).tolist() == [8, -7]


def test_multiplier_broadcasts_over_channels():
    multiplier, shift = quantize_multipliers(np.array([0.5, 4.0]))
    assert multiply_by_quantized_multiplier(
        np.array([[6, 6], [2, 2]]), multiplier, shift
    ).tolist() == [
        [3, 24],
        [1, 8],
    ]


def test_two_roundings_are_not_one():
    # 250 * 0.511 / 256 = 0.49902: once rounded it is 0; 127.75 -> 128, 128 / 256 = 0.5 -> 1.
    real = 0.511 / 256
    assert multiply_by_quantized_multiplier(
        np.array([250]), *quantize_multiplier(real)
    ).tolist() == [1]
    assert requantize_f32(np.array([250]), np.float32([real]), 0).tolist() == [0]


def test_requantize_f32_rounds_half_to_even_before_the_zero_point():
    result = requantize_f32(np.array([1, 3, 5, -1, -3]), np.float32([0.5]), 7)
    assert result.dtype == np.float32
    assert result.tolist() == [7, 9, 9, 7, 5]


def test_requantize_f32_rounds_the_accumulator_to_float32():
    # 2**24 + 1 is no float32; the even neighbour is 2**24.
    assert requantize_f32(np.array([2.0**24 + 1]), np.float32([1]), 0).tolist() == [2.0**24]


def test_round_half_away():
    below = np.float32(0.49999997)
    assert round_half_away(np.float32([0.5, -0.5, 2.5, below, -below])).tolist() == [1, -1, 3, 0, 0]


def test_wrap_int32():
    assert wrap_int32(np.array([2**31, -(2**31) - 1, 5])).tolist() == [-(2**31), 2**31 - 1, 5]


def test_clamp_int8():
    clamped = clamp_int8(np.array([-1000, -3, 5, 1000]), (-2, 127))
    assert clamped.dtype == np.int8
    assert clamped.tolist() == [-2, -2, 5, 127]


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 5, (-128, 127)),
        ("RELU", 0.1, 112, (112, 127)),  # 4 bits: 127 - 15
        ("RELU", 0.1, -128, (-128, 127)),
        ("RELU6", 0.1, -128, (-128, -68)),
        ("RELU6", 0.01, 0, (0, 127)),
        ("RELU6", 4.0, 0, (0, 2)),  # 6 / 4 = 1.5
    ],
)
def test_activation_bounds(activation, scale, zero_point, expected):
    assert activation_bounds(activation, Quantization(np.float32(scale), zero_point)) == expected


def test_relu6_ties_differ_in_xnnpack():
    # 6 / 12 = 0.5: half away from zero gives 1, half to even of 0.5 + 4 gives 4.
    output = Quantization(np.float32(12), 4)
    assert activation_bounds("RELU6", output) == (4, 5)
    assert activation_bounds("RELU6", output, xnnpack=True) == (4, 4)


def test_unknown_activation():
    with pytest.raises(ValueError, match="Received: activation='TANH'"):
        activation_bounds("TANH", Quantization(np.float32(1)))
