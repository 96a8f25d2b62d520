r"""QSin: the sine of the grid inside its range, a parabola outside.

It is smooth, and near a level the squared error itself.

    R = (1/N) sum_w r(w),    r(w) = (s / pi)^2 sin^2(pi w / s)    inside the range,
                             r(w) = (w - clip(w))^2               outside

for each kernel; the cost is `lambda sum_l R`, lambda at a hundredth, a tenth and all of `strength`
in the three thirds of the training.

Reference: Solodskikh, Chikin et al. 2022, "Towards Accurate Network Quantization with Equivalent
Smooth Regularizer", ECCV.
"""

import math
from typing import Any

import keras
from keras import ops

from tfqreg.regularizers.penalty import ScheduledPenalty
from tfqreg.regularizers.sinusoidal import sine_squares

# Fractions of `strength` in the three thirds of the training, as published: weights move freely,
# then settle.
THIRDS = (0.01, 0.1, 1.0)


def qsin_squares(positions: Any, low: float, high: float) -> Any:
    """Returns `sin^2(pi v) / pi^2` inside `low .. high` and `(v - clip(v))^2` outside, for every v.

    Args:
        positions: v, weights in steps of their grid, any shape.
        low: the lowest level.
        high: the highest level.

    Example:
        >>> import numpy as np
        >>> np.round(np.asarray(qsin_squares(np.float32([1.0, 1.5, 3.0, 3.5]), -3.0, 3.0)), 4)
        array([0.    , 0.1013, 0.    , 0.25  ], dtype=float32)
    """
    outside = positions - ops.clip(positions, low, high)
    return ops.where(
        ops.equal(outside, 0.0), sine_squares(positions) / math.pi**2, ops.square(outside)
    )


@keras.saving.register_keras_serializable(package="tfqreg")
class QSin(ScheduledPenalty):
    """Pulls weights to the levels by a sine inside the range and by a parabola outside.

        R = (1/N) sum_w r(w),    r(w) = (s / pi)^2 sin^2(pi w / s)    inside the range,
                                 r(w) = (w - clip(w))^2               outside

    The scale follows the squared error.

    Args:
        strength: lambda in the last third of the training, in units of the loss; 100 by default, as
            published.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for a strength that is no positive number, or a quantizer that is no `Uniform`.

    Example:
        >>> QSin(strength=10.0).get_config()["strength"]
        10.0

    Reference: Solodskikh, Chikin et al. 2022, ECCV.
    """

    def __init__(self, strength: float = 100.0, **kwargs: Any) -> None:
        super().__init__(strength, **kwargs)

    def measure(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns R of one kernel."""
        quantizer, binary = quantized_kernel.quantizer, quantized_kernel.quantizer.bits == 1
        low, high = (
            (0.0, 1.0)
            if binary
            else (float(quantizer.smallest_code), float(quantizer.largest_code))
        )
        step = (2.0 if binary else 1.0) * ops.stop_gradient(quantizer.scale(quantized_kernel.state))
        squares = qsin_squares(
            quantizer.positions(quantized_kernel.surviving(w), quantized_kernel.state), low, high
        )
        return ops.sum(ops.square(step) * squares) / quantized_kernel.count

    def fraction(self, progress: float) -> float:
        """Returns 0.01, 0.1 and 1 in the three thirds."""
        return THIRDS[min(int(3.0 * progress), 2)]
