r"""Mean squared quantization error as a regularizer, with a learned coefficient.

    R = (1/N) sum_l sum_{w in W_l} (w - Q(w; s_l))^2,    cost = exp(omega) R - alpha omega

    dR/dw = (2/N) (w - Q(w)),    dR/ds = -(2/N) sum (w - s q) q
    dcost/domega = exp(omega) R - alpha

with the codes q held fixed. A second penalty, with a coefficient of its own, pulls the scales
to powers of two.

Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
"""

from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.regularizers.coefficient import LearnedPenalty, Schedule
from tfqreg.regularizers.power_of_two_scale import PowerOfTwoScale


def squared_error(w: Any, levels: Any, mask: Any = None) -> Any:
    """Returns `sum mask * (w - levels)^2`; differentiable in both.

    Args:
        w: weights, any shape.
        levels: the level nearest to each weight, same shape.
        mask: 0/1 of the same shape; pruned weights do not count. All count by default.

    Example:
        >>> import numpy as np
        >>> float(squared_error(np.float32([1.0, 2.5]), np.float32([1.5, 2.0])))
        0.5
    """
    error = w - levels
    return ops.sum(ops.square(error if mask is None else ops.where(mask, error, 0.0)))


@keras.saving.register_keras_serializable(package="tfqreg")
class MSQE(LearnedPenalty):
    """Pulls weights to the grid of their quantizer, harder as they come near.

        R = (1/N) sum_l sum_{w in W_l} (w - Q(w; s_l))^2,    cost = exp(omega) R - alpha omega

    Args:
        alpha: pull on the learned coefficient, in units of the loss; 0.01 by default.
        coefficient: "learned", the default, a constant, or a callable of the training step.
        scope: "global", the default, for one coefficient (and one N) over all layers that share the
            object, "layer" for one each.
        forward: "quantized", the default, or "float" to train with float weights until the
            coefficient settles (the method's first form).
        scale_alpha: pull on the coefficient of a second penalty, on the distance of each scale to a
            power of two, for `Uniform(power_of_two=True)`; None, the default, for no such penalty.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for an alpha that is no positive number, an unknown coefficient, scope or
            forward; for a `scale_alpha` if the scale of a kernel is not to be a power of two.

    Example:
        >>> MSQE(alpha=0.02).get_config()["coefficient"]
        'learned'

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
    """

    trains_scale = True

    def __init__(
        self,
        alpha: float = 0.01,
        coefficient: str | float | Schedule = "learned",
        scope: str = "global",
        forward: str = "quantized",
        scale_alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, coefficient, scope, **kwargs)
        if forward not in ("quantized", "float"):
            rule = '`forward` must be "quantized" or "float"'
            raise ModelError("MSQE", rule, received=f"forward={forward!r}")
        self.forward = forward
        self.scale_penalty = (
            None if scale_alpha is None else PowerOfTwoScale(scale_alpha, name="scale_penalty")
        )

    def register(self, quantized_kernel: Any) -> None:
        """Adds the weights, and the scales, of a kernel to what the penalties average over."""
        super().register(quantized_kernel)
        if self.scale_penalty is not None:
            self.scale_penalty.register(quantized_kernel)

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns `exp(omega)` times one kernel's part of R, with the gradient of the cost."""
        cost = self.cost(quantized_kernel.grid_squares(w), quantized_kernel.count)
        if self.scale_penalty is None:
            return cost
        return cost + self.scale_penalty.grid_cost(quantized_kernel, w)

    def start(self, pairs: list[tuple[Any, Any]]) -> None:
        """Starts both coefficients from the errors as they are."""
        super().start(pairs)
        if self.scale_penalty is not None:
            self.scale_penalty.start(pairs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        scale_alpha = None if self.scale_penalty is None else self.scale_penalty.alpha
        return {**super().get_config(), "forward": self.forward, "scale_alpha": scale_alpha}
