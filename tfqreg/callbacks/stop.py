"""Ends training once the learned coefficient has done its work."""

from typing import Any

import keras
from keras import ops

from tfqreg.callbacks.progress import sync
from tfqreg.errors import ModelError
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.queries import kernel_pairs
from tfqreg.regularizers import LearnedPenalty


def relative_error(quantized_kernel: QuantizedKernel, weights: Any) -> float:
    """Returns `sum (w - Q(w))^2 / sum w^2` over the surviving weights; 0 if all of them are 0."""
    surviving = quantized_kernel.surviving(weights)
    power = float(ops.convert_to_numpy(ops.sum(ops.square(surviving))))
    squares = float(ops.convert_to_numpy(quantized_kernel.grid_squares(weights)))
    return squares / power if power else 0.0


class StopWhenSettled(keras.callbacks.Callback):
    """Ends `fit` after the epoch in which the weights have settled on their grid.

    They have once every learned coefficient is at its cap and every kernel that one of them pulls
    has a relative error `sum (w - Q(w))^2 / sum w^2` within the bound.

    Args:
        bound: the largest relative error of a kernel; 1e-4 by default, an error of 1 % of the
            weights' size.

    Raises:
        ModelError: for a bound that is not positive, or a model without learned coefficients.

    Example:
        >>> StopWhenSettled(bound=1e-3).bound
        0.001

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095: training ends at a threshold of the
    coefficient.
    """

    def __init__(self, bound: float = 1e-4) -> None:
        super().__init__()
        if not bound > 0:
            raise ModelError(
                "StopWhenSettled", "`bound` must be positive", received=f"bound={bound!r}"
            )
        self.bound = bound

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels that a learned coefficient pulls."""
        self.pulled = [
            (quantized_kernel, penalty, weights)
            for quantized_kernel, weights in kernel_pairs(self.model)
            if isinstance(penalty := quantized_kernel.regularizer, LearnedPenalty)
            and penalty.learned
        ]
        if not self.pulled:
            raise ModelError(
                "StopWhenSettled",
                f"{self.model.name} has no learned coefficient to wait for",
                "Give its rules regularizer=tfqreg.MSQE()",
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the coefficients, then at the errors."""
        sync(self.model)
        settled = (
            penalty.at_cap and relative_error(quantized_kernel, weights) <= self.bound
            for quantized_kernel, penalty, weights in self.pulled
        )
        self.model.stop_training = all(settled)
