r"""Oscillation dampening: a pull to the level a weight rounds to, which grows in training.

    D = sum_w (clip(w, s low, s high) - Q(w))^2
    cost = lambda(t) D,    lambda(t) = strength (1 - cos(pi t / T)) / 2

with Q(w) held fixed: dD/dw = 2 (w - Q(w)) inside the range, and 0 outside.

Reference: Nagel, Fournarakis, Bondarenko, Blankevoort 2022, arXiv 2203.11086, section 4.1.
"""

import math
from typing import Any

import keras
from keras import ops

from tfqreg.regularizers.penalty import ScheduledPenalty


@keras.saving.register_keras_serializable(package="tfqreg")
class Dampening(ScheduledPenalty):
    """Pulls the weights inside the range to their levels, harder along a cosine.

        D = sum_w (clip(w, s low, s high) - Q(w))^2
        cost = lambda(t) D,    lambda(t) = strength (1 - cos(pi t / T)) / 2

    Beside `MSQE`: a sum over weights instead of a mean, a schedule instead of a learned
    coefficient, and no pull on clipped weights. The scale stays with the squared error, or with the
    loss.

    Args:
        strength: lambda at the end of training, in units of the loss; 0.1 by default, as published.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for a strength that is no positive number, or a quantizer that is no `Uniform`.

    Example:
        >>> Dampening().get_config()["strength"]
        0.1

    Reference: Nagel, Fournarakis, Bondarenko, Blankevoort 2022, arXiv 2203.11086, section 4.1.
    """

    def __init__(self, strength: float = 0.1, **kwargs: Any) -> None:
        super().__init__(strength, **kwargs)

    def measure(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns D of one kernel."""
        quantizer, w = quantized_kernel.quantizer, quantized_kernel.surviving(w)
        scale = ops.stop_gradient(quantizer.scale(quantized_kernel.state))
        inside = ops.clip(w, scale * quantizer.smallest_code, scale * quantizer.largest_code)
        error = inside - ops.stop_gradient(quantized_kernel.quantized(w))
        return ops.sum(ops.square(error))

    def fraction(self, progress: float) -> float:
        """Returns `(1 - cos(pi progress)) / 2`."""
        return (1.0 - math.cos(math.pi * progress)) / 2.0
