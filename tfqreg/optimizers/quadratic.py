r"""Steps of multi-bit weights on a quadratic model of the loss, all groups of a kernel at once.

    f(w) = gradient . (w - w_t) + 1/2 (w - w_t)' diag(H) (w - w_t)
    target w* = w_t - gradient / H

so that f(w) = 1/2 sum H (w - w*)^2 up to a constant. `basis_step` is the way in: each weight takes
the signs of the level nearest to its target (`nearest_codes`), then all coordinates of a group are
solved for (`normal_equations`, `solve_coordinates`). A weight's signs are kept as one number, its
code: the column of `sign_table`.

Arrays are (channels, parts, size) for weights, (channels, parts, bases) for coordinates and
(channels, parts, bases, size) for bases.

Reference: Qu et al. 2020, arXiv 1912.08883, section 4.
"""

import math
from typing import Any

import numpy as np
from keras import ops

# Added to the diagonal of the coordinates' systems, whose elements are 1 there, as in the paper's
# code; also the relative rise of the model that counts as rounding.
RIDGE = 1e-6
# Digits of a bisection that are found by selecting among few midpoints per group (1, 2, 4, 8),
# which is faster there than gathering one for each weight.
SELECTED_DIGITS = 4


def sign_table(bases: int) -> np.ndarray:
    """Returns all sign vectors as columns, -1.0 and 1.0 (bases, 2^bases).

    Column k holds the binary digits of k, the lowest first.

    Example:
        >>> sign_table(2)
        array([[-1.,  1., -1.,  1.],
               [-1., -1.,  1.,  1.]], dtype=float32)
    """
    return np.where(np.arange(2**bases) >> np.arange(bases)[:, None] & 1, 1.0, -1.0).astype(
        np.float32
    )


def nearest_codes(target: Any, alpha: Any) -> Any:
    """Returns each weight's code, whose level `sum_i +-alpha_i` is nearest to its target.

    The levels of a group are sorted and each target finds its place among their midpoints by
    bisection, so no table of weights by levels is built. Levels are symmetric: the search is among
    the upper half, for the magnitude.

    Args:
        target: (channels, parts, size).
        alpha: (channels, parts, bases), of either sign; 0 where there is no base.

    Returns:
        Columns of `sign_table`, int32 (channels, parts, size).
    """
    bases = alpha.shape[-1]
    half = 2 ** (bases - 1)
    levels = ops.reshape(ops.matmul(alpha, sign_table(bases)), (-1, 2 * half))
    order = ops.cast(ops.argsort(levels, axis=-1), "int32")[:, half:]
    levels = ops.take_along_axis(levels, order, axis=-1)
    midpoints = (levels + ops.roll(levels, -1, axis=-1)) / 2.0  # the last of a row is never read
    position = _place(ops.abs(target), ops.reshape(midpoints, (*target.shape[:-1], half)), alpha)
    codes = ops.take(ops.reshape(order, (-1,)), ops.broadcast_to(position, ops.shape(target)))
    return ops.where(target < 0.0, 2 * half - 1 - codes, codes)


def _place(magnitude: Any, midpoints: Any, alpha: Any) -> Any:
    """Returns how many midpoints of its group each magnitude exceeds, plus where the group begins.

    A bisection finds the count digit by digit, from the highest on. With `done` digits known, the
    midpoint to compare with is one of 2^done of the group. While these are few, comparisons of the
    digits before select it (`_selected`); later it is gathered from all midpoints by its index.

    Args:
        magnitude: (channels, parts, size).
        midpoints: ascending, (channels, parts, half), half a power of two; the last is not read.
        alpha: coordinates (channels, parts, bases); 0 where there is no base.

    Returns:
        Indices into the flat midpoints, int32 (channels, parts, size).
    """
    half = midpoints.shape[-1]
    flat = ops.reshape(midpoints, (-1,))
    rows = ops.arange(0, flat.shape[0], half, dtype="int32")
    position = ops.reshape(rows, (*magnitude.shape[:-1], 1))
    # Each level occurs 2^k times where k coordinates are 0: the last k digits would only choose
    # among equals.
    most = ops.max(ops.sum(ops.cast(alpha != 0.0, "int32"), axis=-1))
    known: list[Any] = []  # the digits so far, as booleans for each weight

    def with_digit(position: Any, digit: int) -> Any:
        above = magnitude > ops.take(flat, position + (2**digit - 1))
        return position + ops.where(above, 2**digit, 0)

    for done, digit in enumerate(reversed(range(half.bit_length() - 1))):
        if done >= SELECTED_DIGITS:
            position = ops.cond(
                most > done + 1,
                lambda p=position, digit=digit: with_digit(p, digit),
                lambda p=position: p,
            )
            continue
        known.append(magnitude > _selected(midpoints, digit, known))
        position = position + ops.where(known[-1], 2**digit, 0)
    return position


def _selected(midpoints: Any, digit: int, known: list[Any]) -> Any:
    """Returns the midpoint that decides a digit of each weight's place.

    It stands at `higher digits + 2^digit - 1`. Of all that may stand there, each known digit
    discards every other one, the lowest known first.
    """
    half = midpoints.shape[-1]
    left = [midpoints[..., k : k + 1] for k in range(2**digit - 1, half, 2 ** (digit + 1))]
    for above in reversed(known):
        left = [ops.where(above, *pair) for pair in zip(left[1::2], left[::2], strict=True)]
    return left[0]


def signs_of(codes: Any, factors: Any) -> Any:
    """Returns the sign vectors of codes, each base times its factor.

    Args:
        codes: columns of `sign_table`, int32 (..., size).
        factors: (..., bases).

    Returns:
        (..., bases, size).
    """
    bits = ops.reshape(
        ops.convert_to_tensor([2**i for i in range(factors.shape[-1])], dtype="int32"), (-1, 1)
    )
    factors = ops.expand_dims(factors, -1)
    return ops.where(ops.bitwise_and(ops.expand_dims(codes, -2), bits) > 0, factors, -factors)


def normal_equations(
    target: Any, curvature: Any, codes: Any, table: Any, valid: Any
) -> tuple[Any, Any]:
    """Returns A and r of the model in the coordinates, `1/2 alpha' A alpha - r alpha`.

        A = B H B',    r = B H w*,    both over the sum of H

    which is the model up to a constant and a scale. B has few different columns: H and H w* are
    summed over the weights of each, and B is never built.

    Args:
        target: w* (channels, parts, size).
        curvature: H, same shape, positive.
        codes: each weight's column of the table, int32, same shape.
        table: the columns (bases, columns).
        valid: boolean (channels, parts, bases); rows and columns of bases that are not are 0.
    """
    valid, table = ops.cast(valid, "float32"), ops.convert_to_tensor(table)
    groups = (*target.shape[:-1], table.shape[-1])
    places = (
        ops.reshape(ops.arange(0, math.prod(groups), groups[-1], dtype="int32"), (*groups[:-1], 1))
        + codes
    )

    def totals(values: Any) -> Any:
        sums = ops.segment_sum(
            ops.reshape(values, (-1,)), ops.reshape(places, (-1,)), math.prod(groups)
        )
        return ops.reshape(sums, groups)

    weight = totals(curvature)
    whole = ops.sum(weight, axis=-1, keepdims=True)
    matrix = ops.matmul(table * ops.expand_dims(weight / whole, -2), ops.transpose(table))
    right = ops.matmul(totals(curvature * target) / whole, ops.transpose(table))
    return matrix * ops.expand_dims(valid, -1) * ops.expand_dims(valid, -2), right * valid


def solve_coordinates(matrix: Any, right: Any, valid: Any) -> Any:
    """Returns the coordinates that minimise the model, `(A + D)^-1 r`.

    D is 1e-6 on the diagonal, and 1 where there is no base, whose row of A is 0.
    """
    one = ops.eye(valid.shape[-1], dtype="float32")
    matrix = matrix + ops.expand_dims(ops.where(valid, RIDGE, 1.0), -1) * one
    # If a loss has become NaN, the solver would fail without a word about it.
    matrix = ops.where(ops.all(ops.isfinite(matrix), axis=(-1, -2), keepdims=True), matrix, one)
    return ops.squeeze(ops.solve(matrix, ops.expand_dims(right, -1)), -1)


def model_value(alpha: Any, matrix: Any, right: Any) -> Any:
    """Returns each group's `1/2 alpha' A alpha - r alpha`."""
    image = ops.squeeze(ops.matmul(matrix, ops.expand_dims(alpha, -1)), -1)
    return ops.sum(alpha * (image / 2.0 - right), axis=-1)


def basis_step(target: Any, curvature: Any, alpha: Any, valid: Any) -> tuple[Any, Any, Any]:
    """Returns new bases, coordinates (0 or more), and the number of solves refused.

    Coordinates that would raise the model, as those of a nearly singular system may, are refused:
    the group keeps its old ones. So neither part of the step ever raises it.

    Args:
        target: w* (channels, parts, size).
        curvature: H, same shape, positive.
        alpha: (channels, parts, bases).
        valid: boolean, same shape.
    """
    alpha = ops.where(valid, alpha, 0.0)
    codes = nearest_codes(target, alpha)
    matrix, right = normal_equations(target, curvature, codes, sign_table(alpha.shape[-1]), valid)
    solved = ops.where(valid, solve_coordinates(matrix, right, valid), 0.0)
    old, new = model_value(alpha, matrix, right), model_value(solved, matrix, right)
    # What is lost to rounding is no singular system.
    refused = ops.sum(ops.cast(~(new <= old + RIDGE * ops.abs(old)), "int32"))
    alpha = ops.where(ops.expand_dims(new <= old, -1), solved, alpha)
    signs = ops.where(valid, ops.where(alpha < 0.0, -1.0, 1.0), 0.0)
    return signs_of(codes, signs), ops.abs(alpha), refused


def chunks(shape: tuple[int, ...], bases: int, largest: int) -> list[slice]:
    """Returns slices of the channels with at most `largest` values of the basis each.

    A slice has one channel at least.

    Example:
        >>> chunks((3, 1, 10), bases=2, largest=40)
        [slice(0, 2, None), slice(2, 4, None)]
    """
    channels, parts, size = shape
    step = max(1, largest // (parts * size * bases))
    return [slice(start, start + step) for start in range(0, channels, step)]
