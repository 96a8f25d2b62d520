r"""Sinusoidal regularization: zero on every level of the grid, bounded between them.

    R_p = (1/N) sum_w sin^2(pi v(w)) / 2^(p beta)

for each kernel, v being the weight's position on the grid of its quantizer, whose levels are the
whole numbers, so that period and offset are those of the quantizer that is really used; 2^beta =
steps of the grid within the range + 1. The cost is `lambda_w sum_l R_p`, and over a training of T
steps

    lambda_w(t) = strength f(t; rise),    f(t; c) = (1 + tanh((t - c T) / (s T))) / 2

so weights move freely before they settle on the grid.
"""

import math
from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import check_positive
from tfqreg.regularizers.penalty import ScheduledPenalty


def sine_squares(positions: Any) -> Any:
    """Returns `sin^2(pi v)`, exactly 0 at whole v; the gradient in v is `pi sin(2 pi v)`.

    Example:
        >>> import numpy as np
        >>> np.asarray(sine_squares(np.float32([0.0, 3.0, 7.5])))
        array([0., 0., 1.], dtype=float32)
    """
    return ops.square(ops.sin(math.pi * (positions - ops.stop_gradient(ops.round(positions)))))


def rise_at(progress: float, centre: float, width: float) -> float:
    """Returns `(1 + tanh((t - centre) / width)) / 2`, a rise from 0 to 1 in training.

    Args:
        progress: t, the fraction of the training done.
        centre: where the rise stands at 1/2, as such a fraction.
        width: of the rise, likewise.

    Example:
        >>> rise_at(0.2, 0.2, 0.02)
        0.5
    """
    return 0.5 * (1.0 + math.tanh((progress - centre) / width))


@keras.saving.register_keras_serializable(package="tfqreg")
class SinReQ(ScheduledPenalty):
    """Pulls weights to the levels of their quantizer by sin^2; the bits are the quantizer's.

        R_p = (1/N) sum_w sin^2(pi v(w)) / 2^(p beta),    cost = lambda_w sum_l R_p

    v being a weight's position on its grid, whose levels are the whole numbers.

    Args:
        strength: lambda_w once it has risen, in units of the loss; 1 by default.
        power: p of R_p, 0, 1 or 2; 1 by default, for which the gradient in beta neither explodes
            nor vanishes.
        reduction: "mean" over the weights of a kernel, or "sum"; "mean" by default.
        rise: fraction of the training after which lambda_w stands at half its strength; 0.2 by
            default.
        width: s, fraction of the training a transition takes; 0.02 by default.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for a strength that is no positive number, or a power, reduction, rise or width
            out of range.

    Example:
        >>> SinReQ(strength=5.0).get_config()["power"]
        1

    Reference: Elthakeb et al. 2019, arXiv 1905.01416; Elthakeb et al. 2020, arXiv 2003.00146.
    """

    def __init__(
        self,
        strength: float = 1.0,
        power: int = 1,
        reduction: str = "mean",
        rise: float = 0.2,
        width: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(strength, **kwargs)
        owner = type(self).__name__
        if power not in (0, 1, 2):
            raise ModelError(owner, "`power` must be 0, 1 or 2", received=f"power={power!r}")
        if reduction not in ("mean", "sum"):
            rule = '`reduction` must be "mean" or "sum"'
            raise ModelError(owner, rule, received=f"reduction={reduction!r}")
        if not 0.0 <= rise <= 1.0:
            rule = "`rise` is a fraction of the training"
            raise ModelError(owner, rule, received=f"rise={rise!r}")
        self.power, self.reduction, self.rise = power, reduction, float(rise)
        self.width = check_positive(width, owner, "width")

    def register(self, quantized_kernel: Any) -> None:
        """Checks that the quantizer of a kernel has one uniform grid."""
        if not hasattr(quantized_kernel.quantizer, "positions"):
            raise ModelError(
                quantized_kernel.name,
                f"{type(self).__name__} needs a quantizer on one uniform grid, such as WRPN, "
                "DoReFa, Uniform or LearnedBits",
                received=f"{quantized_kernel.quantizer!r}",
            )

    def measure(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns R_p of one kernel."""
        quantizer, state = quantized_kernel.quantizer, quantized_kernel.state
        squares = sine_squares(quantizer.positions(quantized_kernel.surviving(w), state))
        total = ops.sum(squares) if self.reduction == "sum" else ops.mean(squares)
        return total / ops.sum(ops.power(quantizer.resolution(state) + 1.0, float(self.power)))

    def check_schedule(self, total_steps: int, begin: int, end: int) -> None:
        """Raises ModelError if lambda_w has no step left after its rise."""
        if round(self.rise * total_steps) >= total_steps:
            raise ModelError(
                self.name,
                "lambda_w rises with the last step and never acts",
                "Lower `rise`",
                f"rise={self.rise}, {total_steps} steps",
            )

    def fraction(self, progress: float) -> float:
        """Returns f(progress; rise)."""
        return rise_at(progress, self.rise, self.width)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        names = ("name", "strength", "power", "reduction", "rise", "width")
        return {name: getattr(self, name) for name in names}
