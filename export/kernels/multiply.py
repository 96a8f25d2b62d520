"""MUL, the product of two tensors, broadcast.

XNNPACK rounds the float32 product half to even on x86-64, the exact one half up on arm64.
"""

import numpy as np

from .arithmetic import multiply_by_quantized_multiplier, quantize_multiplier, requantize_f32
from .call import Call

# Products of scales over the output's that XNNPACK's qs8-vmul takes; what is outside runs on the
# built-in kernel.
_SMALLEST_RATIO, _LARGEST_RATIO = 2.0**-16, 2.0**8


def mul(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b at three scales, broadcast."""
    first, second, target = call.source(0), call.source(1), call.target
    product = (a.astype(np.int32) - first.zero_point) * (b.astype(np.int32) - second.zero_point)
    ratio = first.scale * second.scale / target.scale
    if not call.reference and _SMALLEST_RATIO <= ratio[0] < _LARGEST_RATIO:
        if call.mode == "arm64":
            return call.clamp(_round_half_up(product, ratio[0]) + target.zero_point)
        return call.clamp(requantize_f32(product, ratio, target.zero_point))
    result = multiply_by_quantized_multiplier(product, *quantize_multiplier(float(ratio[0])))
    return call.clamp(result + target.zero_point)


def _round_half_up(product: np.ndarray, ratio: np.float32) -> np.ndarray:
    """`floor(product * ratio + 1/2)`, exactly: the 24 bits of the factor as an integer."""
    fraction, exponent = np.frexp(ratio)
    shift = 24 - int(exponent)
    return (product.astype(np.int64) * int(fraction * 2**24) + (1 << (shift - 1))) >> shift
