"""Structured sketching: the bases and coordinates that a kernel's float weights start from."""

import numpy as np

# Fraction of the squared norm that may be left: a thousandth of the weights themselves, as in the
# paper's code.
STOP_AT = 1e-6


def sketch(w: np.ndarray, bases: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Returns basis, alpha and valid of groups of weights: `w ~ sum_i alpha_i B_i`.

        B_i = sign(residual),    alpha = (B B^T)^-1 B w  anew for all i,    residual = w - alpha B

    until `bases` are found or the residual has 1e-6 of the squared norm. Coordinates are positive
    and ascend.

    Args:
        w: groups of weights, float (..., size).
        bases: the most bases of a group, 1 or more.

    Returns:
        basis: -1 and 1, 0 where not valid, int8 (..., bases, size).
        alpha: float32 (..., bases), 0 where not valid.
        valid: bool (..., bases).

    Example:
        >>> basis, alpha, valid = sketch(np.float32([[0.5, -1.5, 1.5]]), 2)
        >>> alpha.round(3).tolist(), (alpha[:, None] @ basis).round(3).tolist()
        ([[0.5, 1.0]], [[[0.5, -1.5, 1.5]]])

    Reference: Qu et al. 2020, arXiv 1912.08883, algorithm 1; the choice of signs: Guo et al. 2017,
    arXiv 1706.02021.
    """
    flat = w.reshape(-1, w.shape[-1]).astype(np.float64)
    basis = np.zeros((len(flat), bases, flat.shape[1]))
    alpha, valid = np.zeros((len(flat), bases)), np.zeros((len(flat), bases), bool)
    residual, norm = flat.copy(), np.square(flat).sum(1)
    for i in range(min(bases, flat.shape[1])):
        going = np.flatnonzero(np.square(residual).sum(1) > STOP_AT * norm)
        basis[going, i] = np.where(residual[going] >= 0.0, 1.0, -1.0)
        valid[going, i] = True
        b = basis[going, : i + 1]
        # A sign is never in the span of those before it: the residual is orthogonal to them and not
        # to its own sign.
        fitted = np.linalg.solve(b @ b.swapaxes(1, 2), b @ flat[going, :, None])
        alpha[going, : i + 1] = fitted[..., 0]
        residual[going] = flat[going] - (b.swapaxes(1, 2) @ fitted)[..., 0]
    basis *= np.where(alpha < 0.0, -1.0, 1.0)[..., None]
    alpha, valid = np.abs(alpha), valid & (alpha != 0.0)
    order = np.argsort(np.where(valid, alpha, np.inf), axis=1, kind="stable")
    alpha, valid = np.take_along_axis(alpha * valid, order, 1), np.take_along_axis(valid, order, 1)
    basis = np.take_along_axis(basis, order[..., None], 1) * valid[..., None]
    one = (*w.shape[:-1], bases)
    return (
        basis.astype(np.int8).reshape(*one, w.shape[-1]),
        alpha.astype(np.float32).reshape(one),
        valid.reshape(one),
    )
