r"""Partial L2: an L2 penalty on the weights under a threshold alone, which drives a chosen share of them to zero.

    T = (1/N) sum_w w^2 1{|w| <= theta(r)},    cost = exp(psi) T - alpha psi

theta(r) is the r-th quantile of |w|, constant in the gradient: dT/dw = (2/N) w where |w| <= theta, and 0 elsewhere.

Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
"""

from typing import Any

import keras
from keras import ops

from tfqreg.regularizers.coefficient import LearnedPenalty, Schedule


def partial_squares(w: Any, threshold: Any) -> Any:
    """Returns `sum w^2 1{|w| <= threshold}`.

    Args:
        w: weights.
        threshold: scalar, constant in the gradient.
    """
    small = ops.abs(w) <= ops.stop_gradient(threshold)
    return ops.sum(ops.square(ops.where(small, w, 0.0)))


@keras.saving.register_keras_serializable(package="tfqreg")
class PartialL2(LearnedPenalty):
    """Prunes the smallest weights: a penalty on them while the stage lasts, then a mask.

    Args:
        sparsity: share of the weights to prune at the end, 0 <= sparsity < 1.
        alpha: pull on the learned coefficient, in units of the loss; 1 by default.
        coefficient: "learned", a constant, or a callable of the training step.
        scope: "global" for one threshold and coefficient over all layers that share the object; "layer" for one each.

    Raises:
        ValueError: for a sparsity outside [0, 1), an alpha that is no positive number, an unknown coefficient or
            scope.

    Example:
        >>> PartialL2(0.9).sparsity
        0.9

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
    """

    def __init__(
        self,
        sparsity: float,
        alpha: float = 1.0,
        coefficient: str | float | Schedule = "learned",
        scope: str = "global",
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, coefficient, scope, **kwargs)
        if not 0.0 <= sparsity < 1.0:
            raise ValueError(
                f"PartialL2: `sparsity` is a share of the weights, 0 <= sparsity < 1. Received: sparsity={sparsity!r}"
            )
        self.sparsity = float(sparsity)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "sparsity": self.sparsity}
