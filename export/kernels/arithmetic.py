"""The scalar arithmetic of TFLite's integer kernels: gemmlowp's multiplier and XNNPACK's float one.

Two ways to bring an int32 accumulator to int8 are in use. The reference kernels multiply by a
32-bit fixed-point number and round twice; XNNPACK multiplies once in float32 and rounds half to
even. They differ by one step now and then, so a simulator has to know which of them a runtime uses.
"""

import math

import numpy as np

from tfqreg.errors import ModelError

from ..ir import Quantization

INT8_MIN, INT8_MAX = -128, 127


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Splits a factor >= 0 as `real = multiplier * 2**(shift - 31)`.

    The multiplier is in [2**30, 2**31); 0 gives 0, 0.
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def quantize_multipliers(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_multiplier` of every element; two int64 arrays of the same shape."""
    pairs = np.array([quantize_multiplier(float(r)) for r in np.ravel(real)], np.int64)
    return pairs[:, 0].reshape(np.shape(real)), pairs[:, 1].reshape(np.shape(real))


def saturating_rounding_doubling_high_mul(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """`floor((a * b + 2**30) / 2**31)`, int64 holding int32; saturates at `a = b = -2**31`."""
    return np.minimum((np.asarray(a, np.int64) * b + (1 << 30)) >> 31, 2**31 - 1)


def rounding_divide_by_pot(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """`round(x / 2**exponent)`, half away from zero; int64."""
    x = np.asarray(x, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def wrap_int32(x: np.ndarray) -> np.ndarray:
    """Brings an integer back into int32 as two's complement does; int64 in, int64 out."""
    return x.astype(np.int32).astype(np.int64)


def multiply_by_quantized_multiplier(
    x: np.ndarray, multiplier: np.ndarray | int, shift: np.ndarray | int
) -> np.ndarray:
    """gemmlowp's `x * multiplier * 2**(shift - 31)` with its two roundings; int64 holding int32.

    Args:
        x: integers within int32, any shape.
        multiplier, shift: from `quantize_multiplier`, scalars or arrays that broadcast against `x`.
    """
    raised = wrap_int32(np.asarray(x, np.int64) << np.maximum(shift, 0))
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(raised, multiplier), np.maximum(np.negative(shift), 0)
    )


def requantize_f32(accumulator: np.ndarray, scale: np.ndarray, zero_point: int) -> np.ndarray:
    """XNNPACK's `rint(float32(accumulator) * scale) + zero_point`.

    Half to even; float32, not yet clamped.
    """
    result = accumulator.astype(np.float32)
    result *= scale
    np.rint(result, out=result)
    result += np.float32(zero_point)
    return result


def clamp_int8(x: np.ndarray, bounds: tuple[int, int]) -> np.ndarray:
    """Clips to `bounds` and stores as int8."""
    return np.clip(x, *bounds).astype(np.int8)


def round_half_away(x: np.ndarray) -> np.ndarray:
    """`std::round`: half away from zero.

    Computed in float64, in which adding a half to a float32 is exact.
    """
    x = np.asarray(x, np.float64)
    return np.trunc(x + np.copysign(0.5, x))


def fused_multiply_add(
    x: np.ndarray | np.float32, factor: np.float32, addend: np.ndarray | np.float32
) -> np.ndarray:
    """`x * factor + addend` of float32 numbers, rounded once, as ARM's processors do."""
    product = np.asarray(x, np.float32).astype(np.float64) * np.float64(factor)  # exact
    total = product + np.float64(addend)
    # What the sum lost, exactly (Knuth, The Art of Computer Programming, 4.2.2).
    part = total - product
    lost = (product - (total - part)) + (np.float64(addend) - part)
    # A sum that lost something must not look like a tie to the rounding that follows: its last bit
    # is made odd (Boldo and Melquiond, 2008).
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    return np.where((lost != 0) & even, np.nextafter(total, towards), total).astype(np.float32)


def activation_bounds(
    activation: str, output: Quantization, xnnpack: bool = False
) -> tuple[int, int]:
    """The int8 range that a fused activation leaves, as CalculateActivationRangeQuantized finds it.

    Args:
        activation: "NONE", "RELU" or "RELU6".
        output: the output's quantization, per tensor.
        xnnpack: round `6 / scale + zero_point` half to even, as xnn_qs8_quantize does, instead of
            `6 / scale` half away from zero. They differ when 6 / scale is an integer and a half.

    Raises:
        ModelError: for any other activation.
    """
    if activation not in ("NONE", "RELU", "RELU6"):
        raise ModelError(
            "", "A fused activation is NONE, RELU or RELU6", received=f"activation={activation!r}"
        )
    low, high = INT8_MIN, INT8_MAX
    if activation != "NONE":
        low = output.zero_point
    if activation == "RELU6":
        six = np.float32(6) / output.scale[0]
        code = round_half_away(six) + output.zero_point
        if xnnpack:
            code = np.rint(six + np.float32(output.zero_point))
        high = min(high, int(code))
    return low, high
