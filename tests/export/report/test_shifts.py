"""Multiplications by a kernel, and the shifts that could replace them."""

from itertools import product

import numpy as np
import pytest

from tfqreg.export.report.shifts import shift_additions, signed_digits, uses


def test_signed_digits_are_the_fewest():
    powers = [0, *(sign * 2**e for e in range(8) for sign in (-1, 1))]
    one, two = set(powers), {a + b for a, b in product(powers, powers)}
    for code in range(-128, 128):
        fewest = 0 if code == 0 else 1 if code in one else 2 if code in two else 3
        assert min(signed_digits(code), 3) == fewest


def test_levels_of_focused_quantization():
    shift = np.int8([0, 1, -2, 4, 8, -16, 32, 64])
    recentred = np.int8([s * n for n in (8, 12, 14, 15, 16, 17, 18, 20, 24) for s in (-1, 1)])
    assert shift_additions(shift, 5) == 5 * 7
    assert shift_additions(recentred, 1) == 4 + 2 * 14  # 8 and 16 are powers of two
    assert shift_additions(np.int8([1, 11]), 1) is None


@pytest.mark.parametrize(
    "kind,inputs,output,times",
    [
        ("CONV_2D", [(1, 8, 8, 3), (4, 3, 3, 3)], (1, 6, 6, 4), 36),
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 3), (1, 3, 3, 3)], (1, 6, 6, 3), 36),
        ("FULLY_CONNECTED", [(1, 50), (10, 50)], (1, 10), 1),
        ("TRANSPOSE_CONV", [(4,), (4, 3, 3, 3), (1, 5, 5, 3)], (1, 10, 10, 4), 25),
        ("ADD", [(1, 5, 5, 3), (1, 5, 5, 3)], (1, 5, 5, 3), 0),
    ],
)
def test_uses_of_a_weight(kind, inputs, output, times):
    assert uses(kind, inputs, output) == times
