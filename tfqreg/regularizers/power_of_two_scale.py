r"""A penalty on the distance of scales to powers of two, with a learned coefficient of its own.

    P = (1/L) sum_l (log2 s_l - round(log2 s_l))^2,    cost = exp(zeta) P - gamma zeta

over the L scales of all kernels; in log2, in which twice too large and half as large are equally
far (the published form has `(s - 2^round(log2 s))^2`). `Uniform(power_of_two=True)` snaps what is
left when training settles.

Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
"""

import math
from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.regularizers.coefficient import LearnedPenalty


def power_of_two_squares(log2_scale: Any) -> Any:
    """Returns `sum (log2 s - round(log2 s))^2`, the rounded value held constant.

    Args:
        log2_scale: logarithms of the scales, any shape.

    Example:
        >>> import numpy as np
        >>> float(power_of_two_squares(np.float32([-3.0, 1.25])))
        0.0625
    """
    log2_scale = ops.convert_to_tensor(log2_scale)
    return ops.sum(ops.square(log2_scale - ops.stop_gradient(ops.round(log2_scale))))


@keras.saving.register_keras_serializable(package="tfqreg")
class PowerOfTwoScale(LearnedPenalty):
    """Pulls scales to powers of two; `MSQE(scale_alpha=...)` has one.

        P = (1/L) sum_l (log2 s_l - round(log2 s_l))^2,    cost = exp(zeta) P - gamma zeta

    Args:
        alpha: gamma, the pull on the learned coefficient, in units of the loss.

    Raises:
        ModelError: for an alpha that is no positive number.

    Example:
        >>> PowerOfTwoScale(alpha=0.1).learned
        True

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
    """

    def register(self, quantized_kernel: Any) -> None:
        """Adds a kernel's scales to L; raises ModelError if they are not to be powers of two."""
        if not getattr(quantized_kernel.quantizer, "power_of_two", False):
            raise ModelError(
                quantized_kernel.name,
                "`scale_alpha` needs scales that are to be powers of two, "
                "Uniform(power_of_two=True)",
                received=f"{quantized_kernel.quantizer!r}",
            )
        self.count += self._scales(quantized_kernel)

    @staticmethod
    def _scales(quantized_kernel: Any) -> int:
        return math.prod(quantized_kernel.state["log2_scale"].shape)

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns `exp(zeta)` times one kernel's part of P, with the gradient of the cost."""
        squares = power_of_two_squares(quantized_kernel.state["log2_scale"])
        return self.cost(squares, self._scales(quantized_kernel))

    def start(self, pairs: list[tuple[Any, Any]]) -> None:
        """Starts zeta from the distances as they are."""
        squares = [
            ops.convert_to_numpy(power_of_two_squares(quantized_kernel.state["log2_scale"]))
            for quantized_kernel, _ in pairs
        ]
        self.start_from(float(sum(squares)) / self.count)
