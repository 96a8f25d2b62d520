"""Ends training where the learned coefficient has done its work."""

from typing import Any

import keras
from keras import ops

from tfqreg.callbacks.progress import sync
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.queries import kernel_pairs
from tfqreg.regularizers import LearnedPenalty


def relative_error(kernel: QuantizedKernel, w: Any) -> float:
    """Returns `sum (w - Q(w))^2 / sum w^2` over the surviving weights; 0 where all of them are 0."""
    power = float(ops.convert_to_numpy(ops.sum(ops.square(kernel.surviving(w)))))
    return float(ops.convert_to_numpy(kernel.grid_squares(w))) / power if power else 0.0


class StopWhenSettled(keras.callbacks.Callback):
    """Ends `fit` after the epoch in which every coefficient stands at its cap and every kernel on
    its grid.

    Args:
        bound: largest relative squared error `sum (w - Q(w))^2 / sum w^2` of a kernel; 1e-4 by
            default.

    Raises:
        ValueError: for a bound that is not positive, or a model without learned coefficients.

    Example:
        >>> StopWhenSettled(bound=1e-3).bound
        0.001

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095: training ends at a threshold of the
    coefficient.
    """

    def __init__(self, bound: float = 1e-4) -> None:
        super().__init__()
        if not bound > 0:
            raise ValueError(
                f"StopWhenSettled: `bound` must be positive. Received: bound={bound!r}"
            )
        self.bound = bound

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels that a learned coefficient pulls."""
        pairs = kernel_pairs(self.model)
        self.pulled = [
            (kernel, kernel.regularizer, w)
            for kernel, w in pairs
            if isinstance(kernel.regularizer, LearnedPenalty) and kernel.regularizer.learned
        ]
        if not self.pulled:
            raise ValueError(
                f"StopWhenSettled: {self.model.name} has no learned coefficient to wait for. Give "
                f"its rules "
                "regularizer=tfqreg.MSQE()."
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the coefficients, then at the errors."""
        sync(self.model)
        settled = (
            penalty.at_cap and relative_error(kernel, w) <= self.bound
            for kernel, penalty, w in self.pulled
        )
        self.model.stop_training = all(settled)
