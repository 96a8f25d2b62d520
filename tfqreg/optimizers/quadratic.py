r"""Steps of multi-bit weights on a quadratic model of the loss, for all groups of a kernel at once.

    f(w) = gradient . (w - w_t) + 1/2 (w - w_t)' diag(H) (w - w_t),    target w* = w_t - gradient / H

so that f(w) = 1/2 sum H (w - w*)^2 up to a constant. Arrays are (..., size) for weights, (...,
bases) for coordinates and (..., bases, size) for bases.

Reference: Qu et al. 2020, arXiv 1912.08883, section 4.
"""

import math
from typing import Any

import numpy as np
from keras import ops

RIDGE = 1e-6
SELECTED_STEPS = 4  # of a bisection


def sign_table(bases: int) -> np.ndarray:
    """Returns all sign vectors as columns, -1.0 and 1.0 (bases, 2^bases); column k holds the binary
    digits of k.
    """
    return np.where(np.arange(2**bases) >> np.arange(bases)[:, None] & 1, 1.0, -1.0).astype(
        np.float32
    )


def nearest_codes(target: Any, alpha: Any) -> Any:
    """Returns, for each weight, the sign vector whose level `sum_i +-alpha_i` is nearest to its
    target.

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
    """Returns where each magnitude stands among the midpoints of its group, plus where the group
    begins.
    """
    half = midpoints.shape[-1]
    flat = ops.reshape(midpoints, (-1,))
    rows = ops.arange(0, flat.shape[0], half, dtype="int32")
    position = ops.reshape(rows, (*magnitude.shape[:-1], 1))
    # Each level occurs 2^k times where k coordinates are 0: the last k steps would only choose
    # among equals.
    most = ops.max(ops.sum(ops.cast(alpha != 0.0, "int32"), axis=-1))
    taken: list[Any] = []

    def gathered(position: Any, i: int) -> Any:
        return position + ops.where(magnitude > ops.take(flat, position + (2**i - 1)), 2**i, 0)

    for done, i in enumerate(reversed(range(half.bit_length() - 1))):
        if done >= SELECTED_STEPS:
            position = ops.cond(
                most > done + 1, lambda p=position, i=i: gathered(p, i), lambda p=position: p
            )
            continue
        # To choose among few thresholds a group is faster than to gather one a weight.
        thresholds = [midpoints[..., k : k + 1] for k in range(2**i - 1, half, 2 ** (i + 1))]
        for above in reversed(taken):
            thresholds = [
                ops.where(above, *pair)
                for pair in zip(thresholds[1::2], thresholds[::2], strict=True)
            ]
        taken.append(magnitude > thresholds[0])
        position = position + ops.where(taken[-1], 2**i, 0)
    return position


def signs_of(codes: Any, factors: Any) -> Any:
    """Returns the sign vectors of codes (..., size), each base times its factor (..., bases): (...,
    bases, size).
    """
    bits = ops.reshape(
        ops.convert_to_tensor([2**i for i in range(factors.shape[-1])], dtype="int32"), (-1, 1)
    )
    factors = ops.expand_dims(factors, -1)
    return ops.where(ops.bitwise_and(ops.expand_dims(codes, -2), bits) > 0, factors, -factors)


def normal_equations(
    target: Any, curvature: Any, codes: Any, table: Any, valid: Any
) -> tuple[Any, Any]:
    """Returns A and r of the model in the coordinates, `1/2 alpha' A alpha - r alpha`, up to a
    constant and a scale.

        A = B H B',    r = B H w*,    both over the sum of H

    B has few different columns: H and H w* are summed over the weights of each, and B is never
    built.

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
    """Returns the coordinates that minimise the model, `(A + D)^-1 r`, D = 1e-6, and 1 where there
    is no base.
    """
    one = ops.eye(valid.shape[-1], dtype="float32")
    matrix = matrix + ops.expand_dims(ops.where(valid, RIDGE, 1.0), -1) * one
    # Where a loss has become NaN the solver would fail without a word about it.
    matrix = ops.where(ops.all(ops.isfinite(matrix), axis=(-1, -2), keepdims=True), matrix, one)
    return ops.squeeze(ops.solve(matrix, ops.expand_dims(right, -1)), -1)


def model_value(alpha: Any, matrix: Any, right: Any) -> Any:
    """Returns each group's `1/2 alpha' A alpha - r alpha`."""
    image = ops.squeeze(ops.matmul(matrix, ops.expand_dims(alpha, -1)), -1)
    return ops.sum(alpha * (image / 2.0 - right), axis=-1)


def basis_step(target: Any, curvature: Any, alpha: Any, valid: Any) -> tuple[Any, Any, Any]:
    """Returns new bases, coordinates (0 or more), and the number of solves that had to be refused.

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
    """Returns slices of the channels such that each has at most `largest` values of `basis`, one
    channel at least.
    """
    channels, parts, size = shape
    step = max(1, largest // (parts * size * bases))
    return [slice(start, start + step) for start in range(0, channels, step)]
