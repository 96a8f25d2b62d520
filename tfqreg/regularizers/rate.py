r"""The bits that codes will take, as a penalty: weights move to where the entropy coder is cheap.

    h_k = sum_w max(0, 1 - |w/s - k|),    bits = -sum_k h_k log2((h_k + 1/2) / (N + K/2))

A weight between two levels counts for both by its distance (a soft histogram), so the bits are
differentiable: pushed from level k to k + 1 a weight changes them by log2(h_k / h_{k+1}), which in
a sparse layer is a pull towards 0 that grows as zeros prevail. On the grid they are the zero-order
entropy of the codes; the halves keep empty levels finite.
"""

from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.uniform import Uniform
from tfqreg.regularizers.coefficient import Schedule
from tfqreg.regularizers.msqe import MSQE


def soft_bits(positions: Any, low: int, high: int) -> Any:
    """Returns the bits of weights by the entropy of their soft histogram.

    Differentiable in `positions`.

    Args:
        positions: `w / s` of any shape; values outside `low` to `high` count as these.
        low: the smallest code.
        high: the largest code.

    Example:
        >>> import numpy as np
        >>> round(float(soft_bits(np.float32([0] * 750 + [1] * 250), -1, 1)), 1)
        812.0
    """
    v = ops.reshape(ops.clip(positions, low, high), (-1,))
    below = ops.minimum(ops.floor(ops.stop_gradient(v)), high - 1)
    above = v - below  # the part of each weight that counts for the upper of its two levels
    cell = ops.cast(below - low, "int32")
    levels = high - low + 1
    histogram = ops.segment_sum(1.0 - above, cell, levels) + ops.segment_sum(
        above, cell + 1, levels
    )
    total = ops.cast(ops.size(v), v.dtype)
    return -ops.sum(histogram * ops.log2((histogram + 0.5) / (total + 0.5 * levels)))


@keras.saving.register_keras_serializable(package="tfqreg")
class Rate(MSQE):
    """MSQE with a price on the coded bytes.

        cost = exp(omega) R - alpha omega + price * bits / 8
        bits = -sum_k h_k log2((h_k + 1/2) / (N + K/2)),    h_k = sum_w max(0, 1 - |w/s - k|)

    Args:
        price: loss per byte; 1e-5 by default. A net of 10,000 coded bytes then pays 0.1.
        alpha: as of `MSQE`; 0.01 by default.
        coefficient: as of `MSQE`; "learned" by default.
        scope: as of `MSQE`; "global" by default.
        forward: as of `MSQE`; "quantized" by default.
        kwargs: of `MSQE`.

    Raises:
        ModelError: for a price that is not positive, as `MSQE`, and for a kernel whose quantizer is
            no `Uniform`.

    Example:
        >>> Rate(price=2e-5).get_config()["price"]
        2e-05
    """

    def __init__(
        self,
        price: float = 1e-5,
        alpha: float = 0.01,
        coefficient: str | float | Schedule = "learned",
        scope: str = "global",
        forward: str = "quantized",
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, coefficient, scope, forward, **kwargs)
        if not 0.0 < price < float("inf"):
            rule = "`price` is a loss per byte, a positive number"
            raise ModelError("Rate", rule, received=f"price={price!r}")
        self.price = float(price)

    def register(self, quantized_kernel: Any) -> None:
        """Takes note of a kernel, as MSQE; raises ModelError if its quantizer is no `Uniform`."""
        quantizer = quantized_kernel.quantizer
        if not isinstance(quantizer, Uniform) or quantizer.bits == 1:
            raise ModelError(
                "Rate",
                f"the bits of {quantized_kernel.name} are counted for Uniform of 2 bits and more",
                "Use MSQE for this layer",
                f"{quantizer}",
            )
        super().register(quantized_kernel)

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns one kernel's part of MSQE's cost, and the price of its bytes."""
        quantizer = quantized_kernel.quantizer
        positions = quantizer.positions(quantized_kernel.surviving(w), quantized_kernel.state)
        bits = soft_bits(positions, quantizer.smallest_code, quantizer.largest_code)
        return super().grid_cost(quantized_kernel, w) + self.price * bits / 8.0

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "price": self.price}
