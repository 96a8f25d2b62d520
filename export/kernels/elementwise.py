"""The operators that treat every element alone.

ADD, SUB, MAXIMUM, MINIMUM, RELU, RELU6, QUANTIZE, DEQUANTIZE.
"""

import numpy as np

from tfqreg.errors import ModelError

from .arithmetic import (
    activation_bounds,
    clamp_int8,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
)
from .call import Call

_LEFT_SHIFT = 20  # of an addition's operands, in TFLite as in XNNPACK
# Input scale over output scale, as XNNPACK asserts it.
_LARGEST_RATIO = 256
_SMALLEST_RATIO = 1 / 256


def add(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b at three scales, broadcast; of int32, the integers' sum."""
    if call.output.dtype == "int32":
        return a + b
    return call.clamp((_add_ref if call.reference else _add_f32)(call, a, b, 1))


def sub(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b at three scales, broadcast."""
    return call.clamp((_add_ref if call.reference else _add_f32)(call, a, b, -1))


def _add_f32(call: Call, a: np.ndarray, b: np.ndarray, sign: int) -> np.ndarray:
    """XNNPACK's qs8-vadd: both factors as integers of 21 bits under one shift, rounded half up."""
    first, second, target = call.source(0), call.source(1), call.target
    ratios = [float(first.scale[0] / target.scale[0]), float(second.scale[0] / target.scale[0])]
    if max(ratios) >= _LARGEST_RATIO:
        raise ModelError(
            f"{call.op.kind} {call.op.outputs}",
            "XNNPACK needs an output scale above 1/256 of each input's; enlarge it",
            received=f"input scale / output scale = {max(ratios):g}",
        )
    shift = _LEFT_SHIFT - (int(np.frexp(max(ratios))[1]) - 1)
    factor_a, factor_b = (round(ratio * 2.0**shift) for ratio in ratios)
    factor_b *= sign
    total = (a.astype(np.int32) - first.zero_point) * factor_a + (
        b.astype(np.int32) - second.zero_point
    ) * factor_b
    return ((total + (1 << (shift - 1))) >> shift) + target.zero_point


def _add_ref(call: Call, a: np.ndarray, b: np.ndarray, sign: int) -> np.ndarray:
    first, second, target = call.source(0), call.source(1), call.target
    scale_a, scale_b = float(first.scale[0]), float(second.scale[0])
    twice = 2 * max(scale_a, scale_b)

    def rescale(x: np.ndarray, zero_point: int, scale: float) -> np.ndarray:
        raised = (x.astype(np.int64) - zero_point) << _LEFT_SHIFT
        return multiply_by_quantized_multiplier(raised, *quantize_multiplier(scale / twice))

    total = rescale(a, first.zero_point, scale_a) + sign * rescale(b, second.zero_point, scale_b)
    factor = quantize_multiplier(twice / (float(1 << _LEFT_SHIFT) * float(target.scale[0])))
    return multiply_by_quantized_multiplier(total, *factor) + target.zero_point


def maximum(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The larger code; both inputs and the output share one quantization."""
    del call
    return np.maximum(a, b)


def minimum(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smaller code; both inputs and the output share one quantization."""
    del call
    return np.minimum(a, b)


def relu(call: Call, x: np.ndarray) -> np.ndarray:
    """max(x, 0), brought to the output's scale."""
    return _activation(call, x, "RELU")


def relu6(call: Call, x: np.ndarray) -> np.ndarray:
    """min(max(x, 0), 6), brought to the output's scale."""
    return _activation(call, x, "RELU6")


def _activation(call: Call, x: np.ndarray, activation: str) -> np.ndarray:
    return clamp_int8(_requantize(call, x), activation_bounds(activation, call.target))


def _requantize(call: Call, x: np.ndarray) -> np.ndarray:
    source, target = call.source(), call.target
    factor = quantize_multiplier(float(source.scale[0]) / float(target.scale[0]))
    centred = x.astype(np.int64) - source.zero_point
    return multiply_by_quantized_multiplier(centred, *factor) + target.zero_point


def quantize(call: Call, x: np.ndarray) -> np.ndarray:
    """float32 or int8 to int8; uint8 to int8 or back at one scale, by the sign bit alone."""
    if "uint8" in (call.inputs[0].dtype, call.output.dtype):
        return (x.view(np.uint8) ^ 0x80).view(call.output.dtype)
    if x.dtype == np.float32:
        return call.clamp(_from_float(call, x))
    return call.clamp(_requantize(call, x) if call.reference else _convert_f32(call, x))


def _from_float(call: Call, x: np.ndarray) -> np.ndarray:
    scale, zero_point = call.target.scale[0], call.target.zero_point
    if call.reference:
        return round_half_away(x / scale) + zero_point
    # XNNPACK multiplies by the reciprocal and rounds half to even.
    return np.rint(x * (np.float32(1) / scale)) + np.float32(zero_point)


def _convert_f32(call: Call, x: np.ndarray) -> np.ndarray:
    """XNNPACK's qs8-vcvt: a factor of 8 fractional bits, rounded half up."""
    source, target = call.source(), call.target
    ratio = source.scale[0] / target.scale[0]
    if ratio < _SMALLEST_RATIO / 2:  # half of the output's step is beyond the largest input
        return np.full(x.shape, target.zero_point)
    # XNNPACK leaves it to an operator that rounds ties in a way of its own.
    if ratio < _SMALLEST_RATIO:
        raise ModelError(
            f"QUANTIZE {call.op.outputs}",
            "between 256 and 512 times the input's scale, runtimes round the output differently",
            "Requantize in two steps",
            f"input scale / output scale = {ratio:g}",
        )
    factor = int(np.rint(np.float32(256) * ratio))
    return (((x.astype(np.int32) - source.zero_point) * factor + 128) >> 8) + target.zero_point


def dequantize(call: Call, x: np.ndarray) -> np.ndarray:
    """int8 to float32: `scale * (x - zero_point)`."""
    source = call.source()
    return (x.astype(np.float32) - np.float32(source.zero_point)) * source.scale[0]
