"""Tensor elements as integer codes: `element = (code << shift) mod 2**width`, little endian.

Two or four elements narrower than a byte share one, the first in the low bits, as TFLite packs INT4
and INT2; unused bits of the last byte are zero. Codes are exact integers, so the same rule serves
signed, unsigned and (by their bit patterns) floating-point elements.
"""

from math import prod

import numpy as np


def tensor_bytes(shape: tuple[int, ...], width: int) -> int:
    """Returns the size in bytes of a tensor whose elements have `width` bits.

    >>> tensor_bytes((3, 3), 4)
    5
    """
    return (prod(shape) * width + 7) // 8


def to_codes(data: bytes, count: int, width: int, signed: bool) -> np.ndarray:
    """Returns `count` elements of `width` bits (2, 4, 8, 16 or 32) as integers (count,), shift 0.

    >>> to_codes(b"\\x1f\\x02", 3, 4, signed=True).tolist()
    [-1, 1, 2]
    """
    if width >= 8:
        return np.frombuffer(data, f"<{'i' if signed else 'u'}{width // 8}")
    packed = np.frombuffer(data, np.uint8)
    fields = [packed >> low & (1 << width) - 1 for low in range(0, 8, width)]
    elements = np.stack(fields, axis=1).ravel()[:count]
    elements = elements.astype(np.int8) if signed else elements
    return elements - (elements >> (width - 1) << width) if signed else elements


def to_elements(codes: np.ndarray, width: int, shift: int) -> np.ndarray:
    """Returns codes (int64) as unsigned elements of `width` bits, one to an array entry.

    >>> to_elements(np.array([-1, 3]), 4, 1).tolist()
    [14, 6]
    """
    elements = codes << shift
    return (
        elements.astype(f"<u{width // 8}")
        if width >= 8
        else (elements & (1 << width) - 1).astype(np.uint8)
    )


def add_elements(differences: np.ndarray, before: np.ndarray, width: int) -> np.ndarray:
    """Returns the sums modulo 2**width of unsigned elements.

    >>> add_elements(np.array([15, 1], np.uint8), np.array([2, 3], np.uint8), 4).tolist()
    [1, 4]
    """
    sums = differences + before.astype(differences.dtype)
    return sums & ((1 << width) - 1) if width < 8 else sums


def pack_elements(elements: np.ndarray, width: int) -> bytes:
    """Returns the bytes of elements that `to_elements` made.

    >>> pack_elements(np.array([15, 1, 2], np.uint8), 4).hex()
    '1f02'
    """
    if width >= 8:
        return elements.tobytes()
    per_byte = 8 // width
    padded = np.zeros(-(-len(elements) // per_byte) * per_byte, np.uint8)
    padded[: len(elements)] = elements
    places = np.arange(0, 8, width, dtype=np.uint8)
    return np.bitwise_or.reduce(padded.reshape(-1, per_byte) << places, axis=1).tobytes()


def common_shift(codes: np.ndarray) -> int:
    """Returns the largest k such that 2**k divides every code; 0 if all are zero.

    >>> common_shift(np.array([16, -48, 0]))
    4
    """
    union = int(np.bitwise_or.reduce(codes))
    return (union & -union).bit_length() - 1 if union else 0
