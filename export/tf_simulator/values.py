"""How `integer_model` holds a tensor: `code - zero_point` in float32.

That is exact, and padding with zeros is right.
"""

from typing import Any

import numpy as np
import tensorflow

from ..ir import Quantization, Tensor
from ..kernels.arithmetic import INT8_MAX, INT8_MIN, activation_bounds
from ..kernels.call import Call

tf: Any = tensorflow  # whose type stubs know no numpy arrays


def quantize(x: Any, grid: Quantization) -> Any:
    """Returns float32 samples as held values, rounded as the operator QUANTIZE does."""
    return clip(tf.round(x * (np.float32(1) / grid.scale)), INT8_MIN, INT8_MAX, grid)


def dequantize(x: Any, grid: Quantization) -> Any:
    """Returns held values in their own units, as the operator DEQUANTIZE does."""
    return x * grid.scale[0]


def held(stored: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns stored values as held ones, in numpy."""
    return stored.astype(np.float32) - np.float32(zero_point(tensor))


def codes(x: Any, tensor: Tensor) -> Any:
    """Returns held values as stored ones."""
    if tensor.quantization is None:  # float32, or an index
        return x
    return tf.cast(x + float(tensor.quantization.zero_point), tensor.dtype)


def zero_point(tensor: Tensor) -> int:
    """Returns a tensor's zero point; 0 for float32."""
    return tensor.quantization.zero_point if tensor.quantization is not None else 0


def activated(call: Call, x: Any, xnnpack: bool = True) -> Any:
    """Clips held values to what the fused activation leaves; `xnnpack` as in `Call.clamp`."""
    return clip(
        x,
        *activation_bounds(call.attribute("activation", "NONE"), call.target, xnnpack),
        call.target,
    )


def clip(x: Any, low: int, high: int, grid: Quantization) -> Any:
    """Clips held values to a range of codes."""
    return tf.clip_by_value(x, float(low - grid.zero_point), float(high - grid.zero_point))


def constant(data: np.ndarray) -> Any:
    """Returns an array as a variable, which TensorFlow folds into no other."""
    return tf.Variable(data, trainable=False)
