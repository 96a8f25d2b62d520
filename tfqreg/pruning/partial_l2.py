r"""Partial L2: an L2 penalty on the weights under a threshold alone, which drives them to zero.

    T = (1/N) sum_w w^2 1{|w| <= theta(r)},    cost = exp(psi) T - alpha psi

theta(r) is the r-th quantile of |w|, constant in the gradient: dT/dw = (2/N) w where |w| <= theta,
and 0 elsewhere.

Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.pruning.magnitude import exact_threshold, histogram_threshold
from tfqreg.pruning.schedules import check_sparsity
from tfqreg.regularizers.coefficient import LearnedPenalty, Schedule
from tfqreg.regularizers.penalty import Pruning


def partial_squares(w: Any, threshold: Any) -> Any:
    """Returns `sum w^2 1{|w| <= threshold}`.

    Args:
        w: weights, of any shape.
        threshold: scalar, constant in the gradient.

    Example:
        >>> float(partial_squares(np.float32([1, -2, 3]), 2.0))
        5.0
    """
    small = ops.abs(w) <= ops.stop_gradient(threshold)
    return ops.sum(ops.square(ops.where(small, w, 0.0)))


@keras.saving.register_keras_serializable(package="tfqreg")
class PartialL2(LearnedPenalty, Pruning):
    """Prunes the smallest weights: a penalty on them while the stage lasts, then a mask.

        cost = exp(psi) (1/N) sum_w w^2 1{|w| <= theta} - alpha psi

    Args:
        sparsity: fraction of the weights to prune at the end, 0 <= sparsity < 1.
        alpha: pull on the learned coefficient, in units of the loss; 1 by default.
        coefficient: "learned", the default, a constant, or a callable of the training step.
        scope: "global", the default, for one threshold and coefficient over all layers that share
            the object; "layer" for one each.

    Raises:
        ModelError: for a sparsity outside [0, 1), an alpha that is no positive number, an unknown
            coefficient or scope.

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
        self.sparsity = check_sparsity(sparsity, "PartialL2")

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns one kernel's part of the cost, `exp(psi) / N` times its squares under theta."""
        return self.cost(
            partial_squares(ops.convert_to_tensor(w), quantized_kernel.threshold),
            quantized_kernel.count,
        )

    def update(self, pairs: list[tuple[Any, Any]], share: float | None) -> None:
        """Sets the threshold of all kernels to the quantile `share` of all their weights."""
        weights = [ops.convert_to_numpy(w) for _, w in pairs]
        threshold = None if share is None else histogram_threshold(weights, share)
        for quantized_kernel, _ in pairs:
            quantized_kernel.start_pruning()
            if threshold is not None:
                quantized_kernel.set_threshold(threshold)
        if not self.started:
            goal = histogram_threshold(weights, self.sparsity)
            squares = sum(float(np.square(w[np.abs(w) <= goal]).sum()) for w in weights)
            self.start_from(squares / self.count)

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[np.ndarray]:
        """Returns which weights of each kernel lie above the quantile `share` of all."""
        weights = [ops.convert_to_numpy(w) for _, w in pairs]
        threshold = exact_threshold(weights, share)
        return [np.abs(w) > threshold for w in weights]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "sparsity": self.sparsity}
