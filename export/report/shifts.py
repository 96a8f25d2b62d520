"""How often a kernel multiplies, and what shifts and additions could do in its place."""

from collections.abc import Sequence

import numpy as np

MULTIPLY = (
    "BATCH_MATMUL",
    "CONV_2D",
    "CONV_3D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
)
MOST_DIGITS = 2  # of what Focused Quantization writes: powers of two around a power of two


def uses(kind: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Returns how often an operator multiplies by each weight of its kernel, for one sample.

    Other operators give 0.

    Args:
        kind: name of the operator.
        inputs: shapes of its inputs.
        output: shape of its output.
    """
    if kind not in MULTIPLY:
        return 0
    moved = inputs[2] if kind == "TRANSPOSE_CONV" else output
    return int(np.prod(np.abs(moved[:-1])))


def signed_digits(code: int) -> int:
    """Returns the least number of signed powers of two that add up to a code.

    24 = 16 + 8, 7 = 8 - 1, 11 needs 3.

    It is the number of digits of the non-adjacent form (Reitwiesner 1960): the bits in which n and
    3n differ.

    Example:
        >>> [signed_digits(code) for code in (0, 1, -4, 7, 24, 11)]
        [0, 1, 1, 2, 2, 3]
    """
    return (abs(code) ^ (3 * abs(code))).bit_count()


def shift_additions(codes: np.ndarray, times: int) -> int | None:
    """Returns how many shifts, each with an addition, replace the multiplications by `codes`.

    A code of d signed digits costs d of them. None if a code has more than two: powers of two
    have one, and powers of two around a power of two at most two.

    Args:
        codes: of one kernel.
        times: how often each weight is used.

    Example:
        >>> shift_additions(np.int8([[4, 0], [12, -8]]), times=100)
        400
    """
    values, counts = np.unique(codes, return_counts=True)
    digits = [signed_digits(int(value)) for value in values]
    if max(digits, default=0) > MOST_DIGITS:
        return None
    return times * sum(digit * int(count) for digit, count in zip(digits, counts, strict=True))
