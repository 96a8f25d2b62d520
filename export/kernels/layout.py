"""The operators that move elements and compute nothing."""

import numpy as np

from .call import Call


def concatenation(call: Call, *parts: np.ndarray) -> np.ndarray:
    """Joins along `axis`; all quantizations are equal."""
    return np.concatenate(parts, call.attribute("axis"))


def depth_to_space(call: Call, x: np.ndarray) -> np.ndarray:
    """Blocks of channels become blocks of pixels, `block_size` wide."""
    size = call.attribute("block_size")
    count, high, wide, channels = x.shape
    blocks = x.reshape(count, high, wide, size, size, channels // size**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, high * size, wide * size, -1)


def pad(call: Call, x: np.ndarray, paddings: np.ndarray) -> np.ndarray:
    """Adds (before, after) elements per axis, holding the zero point."""
    return np.pad(x, paddings, constant_values=call.target.zero_point)


def reshape(call: Call, x: np.ndarray) -> np.ndarray:
    """Keeps the batch, reshapes the rest."""
    return x.reshape(len(x), *call.output.shape[1:])


def reverse(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Turns the order of the elements along an axis."""
    del call
    return np.flip(x, tuple(int(axis) for axis in axes))


def space_to_depth(call: Call, x: np.ndarray) -> np.ndarray:
    """Blocks of pixels become blocks of channels."""
    size = call.attribute("block_size")
    count, high, wide, channels = x.shape
    blocks = x.reshape(count, high // size, size, wide // size, size, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, high // size, wide // size, -1)


def strided_slice(
    call: Call, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> np.ndarray:
    """Every `strides`-th element from `begin` to `end` of each axis; the batch whole."""
    del call
    return x[:, *(slice(*axis) for axis in zip(begin[1:], end[1:], strides[1:], strict=True))]


def transpose(call: Call, x: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Axis i of the result is axis `permutation[i]` of x."""
    del call
    return x.transpose(permutation)
