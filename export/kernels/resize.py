"""The operators that resize an image: RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR."""

import numpy as np

from .call import Call

_XNNPACK_BITS, _REFERENCE_BITS = 11, 10  # of the weights, as the runtimes have them


def resize_nearest_neighbor(call: Call, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The input pixel under each output pixel's corner, or its centre with `half_pixel_centers`."""
    rows, columns = (_nearest(n, int(m), call) for n, m in zip(x.shape[1:3], size, strict=True))
    return x[:, rows][:, :, columns]


def _nearest(count: int, size: int, call: Call) -> np.ndarray:
    scale = np.float32(count) / np.float32(size)
    positions = np.arange(size, dtype=np.float32) + np.float32(
        call.attribute("half_pixel_centers") / 2
    )
    return np.minimum((positions * scale).astype(np.int64), count - 1)


def resize_bilinear(call: Call, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The mean of four pixels, weighted by their distance from the output pixel's centre."""
    axes = _axis_reference if call.reference else _axis_xnnpack
    (top, bottom, down), (left, right, across) = (
        axes(n, int(m)) for n, m in zip(x.shape[1:3], size, strict=True)
    )
    bits = _REFERENCE_BITS if call.reference else _XNNPACK_BITS
    x = x.astype(np.int64)
    down, across = down[:, None, None], across[:, None]
    rows = (x[:, top] << bits) + (x[:, bottom] - x[:, top]) * down
    total = (rows[:, :, left] << bits) + (rows[:, :, right] - rows[:, :, left]) * across
    half = np.int64(1) << (2 * bits - 1)
    if not call.reference:
        return ((total + half) >> 2 * bits).astype(np.int8)
    # Half away from zero: C's division truncates.
    return (np.sign(total) * ((np.abs(total) + half) >> 2 * bits)).astype(np.int8)


def _axis_xnnpack(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for each position, its two neighbours and the second one's weight of 2048."""
    scale = np.float32(count) / np.float32(size)
    offset = np.float32(0.5) * scale - np.float32(0.5)
    position = np.clip(np.arange(size, dtype=np.float32) * scale + offset, 0, count - 1).astype(
        np.float32
    )
    first = position.astype(np.int64)
    weight = np.rint((position - first.astype(np.float32)) * np.float32(1 << _XNNPACK_BITS))
    return first, np.minimum(first + 1, count - 1), weight.astype(np.int64)


def _axis_reference(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in steps of 1/1024 throughout."""
    one = 1 << _REFERENCE_BITS
    scale = (one * count + size // 2) // size
    position = np.arange(size) * scale + scale // 2 - one // 2
    first = np.maximum(np.trunc(position / one), 0).astype(np.int64)
    second = np.minimum(np.trunc((position + one - 1) / one), count - 1).astype(np.int64)
    return first, second, position - one * first
