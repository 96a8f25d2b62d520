"""Integer weights: codes as trained, BatchNorm folded into their scales, a bias in int32.

scale_c = s_w * |gamma_c| / sqrt(var_c + eps)        codes of channel c times sign(gamma_c)
bias_c  = round(b_c / (s_x * scale_c))               b_c with the BatchNorm's shift folded in
"""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.layers import Quantized
from tfqreg.layers.quantized import output_axes

LARGEST_CODE = 127  # TFLite takes no weights of -128
LARGEST_BIAS = 2.0**30  # leaves the accumulator as much room again below 2^31
BIAS_STEP = 1 / 32  # of an output step: a bias is rounded by half of that at most
# XNNPACK takes multipliers of 2^-32 to 256. What is under the smallest here moves no output by one
# step; at the largest, one step of the accumulator crosses the whole int8 range.
SMALLEST_MULTIPLIER = 2.0**-24
LARGEST_MULTIPLIER = 255.0


@dataclass(frozen=True)
class FoldedWeights:
    """Codes in TFLite's layout with one float64 scale and bias per output channel.

    `bits` is the codes' width.
    """

    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    bits: int
    channel_axis: int


def weights_of(wrapper: Quantized, path: str) -> FoldedWeights:
    """Returns the codes of a wrapped convolution or dense layer as TFLite stores them.

    OHWI for a convolution, transposed or not, with a height of 1 for a 1-D one; 1HWO for a
    depthwise one; (units, inputs) for Dense and EinsumDense.

    Raises:
        ModelError: for NaN or nothing but zeros in the kernel, NaN in the bias, or the code -128,
            which TFLite does not take.
    """
    codes, params = wrapper.encode()["kernel"]
    if codes.dtype == np.int8 and codes.min() == -LARGEST_CODE - 1:
        raise ModelError(
            path, "TFLite takes weights of -127 to 127", "Use Uniform(narrow=True)", "code -128"
        )
    if np.abs(codes).max() > LARGEST_CODE:
        raise ModelError(
            path,
            f"no int8 holds the levels of {wrapper.quantizer!r}",
            'Train with a quantizer whose levels it holds, such as mode="exact" with 4 or 5 bits',
            f"codes up to {np.abs(codes).max()}",
        )
    codes, channel_axis = stored_layout(wrapper.layer, codes.astype(np.int16))
    channels = codes.shape[channel_axis]
    scale = np.broadcast_to(params["scale"].astype(np.float64).ravel(), channels)
    bias = np.zeros(channels)
    if wrapper.layer.bias is not None:
        bias = _sound(wrapper.layer.bias, f"{path}/bias")
        if isinstance(wrapper.layer, keras.layers.EinsumDense):
            new = wrapper.layer.kernel.shape[-len(output_axes(wrapper.layer, "kernel")) :]
            bias = np.broadcast_to(bias, new).ravel()
    return FoldedWeights(codes, scale, bias, params["bits"], channel_axis)


def scale_exponents(wrapper: Quantized) -> list[int]:
    """Returns `log2 s` of scales that are held to powers of two; nothing for the others."""
    if not getattr(wrapper.quantizer, "power_of_two", False):
        return []
    _, params = wrapper.encode()["kernel"]
    mantissas, exponents = np.frexp(params["scale"].ravel())
    return (exponents - 1).tolist() if (mantissas == 0.5).all() else []


def stored_layout(layer: Any, kernel: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns a kernel of Keras' layout in TFLite's, and the axis of its output channels."""
    if isinstance(layer, keras.layers.Dense):
        return kernel.T, 0
    if isinstance(layer, keras.layers.EinsumDense):  # contracted axes first
        new = len(output_axes(layer, "kernel"))
        return kernel.reshape(-1, int(np.prod(kernel.shape[kernel.ndim - new :]))).T, 0
    image = kernel[None] if kernel.ndim == 3 else kernel
    if isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        return image.reshape(1, *image.shape[:2], -1), 3
    transposed = isinstance(layer, keras.layers.Conv1DTranspose | keras.layers.Conv2DTranspose)
    return np.moveaxis(image, 2 if transposed else 3, 0), 0


def identity_weights(channels: int) -> FoldedWeights:
    """Returns a depthwise 1x1 kernel of ones.

    A BatchNorm without a convolution before it folds into that.
    """
    codes = np.ones((1, 1, 1, channels), np.int16)
    return FoldedWeights(codes, np.ones(channels), np.zeros(channels), 2, 3)


def fold_norm(weights: FoldedWeights, norm: Any) -> FoldedWeights:
    """Returns the weights with a BatchNormalization after them folded in.

    Raises:
        ModelError: for NaN or infinity in the BatchNormalization.
    """
    mean = _sound(norm.moving_mean, f"{norm.name}/moving_mean")
    variance = _sound(norm.moving_variance, f"{norm.name}/moving_variance")
    gamma = _sound(norm.gamma, f"{norm.name}/gamma") if norm.scale else np.ones_like(mean)
    beta = _sound(norm.beta, f"{norm.name}/beta") if norm.center else np.zeros_like(mean)
    gain = gamma / np.sqrt(variance + norm.epsilon)
    signs = _along(np.sign(gain).astype(np.int16), weights)
    return replace(
        weights,
        codes=weights.codes * signs,
        scale=weights.scale * np.abs(gain),
        bias=(weights.bias - mean) * gain + beta,
    )


def integer_weights(
    weights: FoldedWeights, input_scale: float, output_scale: float, scale_dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Returns the int8 weights, their float32 scales, their shift, and the int32 bias.

    Codes of few bits are shifted up, which gives the bias a finer grid and changes no value. A
    channel whose scale is too small for the bias to fit in int32 gets a larger one, and its codes
    are rounded to it: they are as good as 0.

    Args:
        weights: codes, scales and bias.
        input_scale, output_scale: of the operator's input and output.
        scale_dtype: "bfloat16" rounds the scales to 8 bits, a change of 0.4 % at most. Default
            float32.
    """
    widest = max(2 ** (weights.bits - 1) - 1, int(np.abs(weights.codes).max(initial=1)), 1)
    shift = int(np.log2(LARGEST_CODE // widest)) if widest <= LARGEST_CODE else 0
    scale = weights.scale / 2.0**shift
    smallest = np.maximum(
        np.abs(weights.bias) / (input_scale * LARGEST_BIAS),
        SMALLEST_MULTIPLIER * output_scale / input_scale,
    )
    codes = (
        np.rint(weights.codes * _along(np.minimum(scale / smallest, 1.0), weights)).astype(np.int16)
        << shift
    )
    scale, largest = np.maximum(scale, smallest), LARGEST_MULTIPLIER * output_scale / input_scale
    stored = np.minimum(scale, largest).astype(np.float32)
    if scale_dtype == "bfloat16":
        stored = round_bfloat16(stored)
    product = (np.float32(input_scale) * stored).astype(np.float64)  # as the runtimes compute it
    # Under a smaller multiplier than its own, a sum keeps its sign only if its bias shrinks
    # along.
    steps = weights.bias / product * np.minimum(largest / scale, 1.0)
    # Bits of the bias that move no output would only cost bytes in the container.
    unit = 2.0 ** max(0.0, np.floor(np.log2(BIAS_STEP * output_scale / product.max())))
    bias = np.clip(np.rint(steps / unit) * unit, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    if (stored == stored[0]).all():
        stored = stored[:1]
    return codes.astype(np.int8), stored, shift, bias


def round_bfloat16(values: np.ndarray) -> np.ndarray:
    """Returns float32 values rounded to the nearest that bfloat16 holds, ties to even.

    >>> round_bfloat16(np.array([1.001, 1.005], np.float32)).tolist()
    [1.0, 1.0078125]
    """
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def _sound(variable: Any, name: str) -> np.ndarray:
    values = ops.convert_to_numpy(variable).astype(np.float64)
    if not np.isfinite(values).all():
        raise ModelError(
            name,
            "NaN or infinity cannot be exported",
            "Load sound weights, or lower the learning rate",
            f"{int((~np.isfinite(values)).sum())} of {values.size} values not finite",
        )
    return values


def _along(vector: np.ndarray, weights: FoldedWeights) -> np.ndarray:
    shape = [1] * weights.codes.ndim
    shape[weights.channel_axis] = -1
    return vector.reshape(shape)
