r"""DoReFa's weight quantizer: a mid-rise grid, without a zero, after a tanh.

Forward, for `k = bits`:

    t = tanh(w) / max|tanh(w)|
    q = 2 round((t + 1)/2 (2^k - 1)) - (2^k - 1)
    w_hat = c q / (2^k - 1)

q is odd, so the levels are +-1, +-3, .. of 2^k - 1 and none is 0. Backward: rounding passes
gradients straight through; tanh and the maximum are differentiated as they stand. c is 1 as
published, or with `normalize` the largest |w| when the quantizer was fitted, so that a layer that
was trained in float keeps its gain.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.quantizers.base import Params, Quantizer, State, check_bits, straight_through
from tfqreg.quantizers.wrpn import largest_magnitude


@keras.saving.register_keras_serializable(package="tfqreg")
class DoReFa(Quantizer):
    """Uniform mid-rise grid after a normalized tanh, without a level at 0.

        t = tanh(w) / max|tanh(w)|
        q = 2 round((t + 1)/2 (2^bits - 1)) - (2^bits - 1),    w_hat = c q / (2^bits - 1)

    for a kernel of any shape. It cannot be pruned; `WRPN` and `Uniform` can.

    Args:
        bits: base-2 logarithm of the number of levels, 1 to 7; 4 by default. The codes are odd, up
            to 2^bits - 1, and take one bit more; with 8 bits they would not fit int8.
        normalize: gives the levels the range [-c, c], c being the largest |w| when the quantizer is
            fitted; False leaves it at [-1, 1], which wants a BatchNorm after the layer. True by
            default.

    Raises:
        ModelError: for bits out of range.

    Example:
        >>> import numpy as np
        >>> DoReFa(bits=2).encode(np.float32([0.3, -0.6, 5.0]), {"scale": np.float32([1 / 3])})[0]
        array([ 1, -1,  3], dtype=int8)

    Reference: Zhou et al. 2016, arXiv 1606.06160, equation 9.
    """

    has_zero = False
    prunable = False

    def __init__(self, bits: int = 4, normalize: bool = True) -> None:
        self.bits = check_bits(bits, "DoReFa", highest=7)
        self.normalize = normalize

    @property
    def largest_code(self) -> int:
        """The largest code, `2^bits - 1`."""
        return 2**self.bits - 1

    def resolution(self, state: State) -> float:
        """Returns the steps of the grid within 1, `(2^bits - 1) / 2`."""
        return self.largest_code / 2

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of `scale`: one for the whole kernel."""
        return {"scale": (1,) * len(kernel_shape)}

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns `scale`, c / (2^k - 1).

        c is max |w| of the weights in `mask`, or 1 without `normalize`.
        """
        largest = largest_magnitude(w, mask)
        return {
            "scale": (largest if self.normalize else ops.ones_like(largest)) / self.largest_code
        }

    def positions(self, w: Any, state: State) -> Any:
        """Returns `(t + 1)/2 (2^k - 1)`; the levels are the whole numbers."""
        t = ops.tanh(w)
        largest = ops.max(ops.abs(t))
        return (t / ops.where(largest > 0, largest, 1.0) + 1.0) * (self.largest_code / 2)

    def codes(self, w: Any) -> Any:
        """Returns the odd codes as floats, straight-through."""
        positions = self.positions(w, {})
        codes = 2.0 * ops.round(positions) - self.largest_code
        return straight_through(codes, 2.0 * positions)

    def scale(self, state: State) -> Any:
        """Returns `c / (2^k - 1)`, half the spacing of the levels."""
        return ops.stop_gradient(ops.convert_to_tensor(state["scale"]))

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the level nearest to each weight, constant."""
        return ops.stop_gradient(self(w, state))

    def __call__(self, w: Any, state: State) -> Any:
        """Returns `c q / (2^k - 1)`, with the gradients the module's first lines state."""
        return self.codes(w) * self.scale(state)

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns odd int8 codes and `{"scale": float32, "bits": int}`, with one bit more."""
        codes = ops.convert_to_numpy(self.codes(ops.convert_to_tensor(w)))
        return codes.astype(np.int8), {
            "scale": ops.convert_to_numpy(self.scale(state)),
            "bits": self.bits + 1,
        }

    def code_positions(self, w: Any, params: Params) -> np.ndarray:
        """Returns `2 v - (2^k - 1)` for the positions v on the grid, which come after the tanh."""
        return ops.convert_to_numpy(2.0 * self.positions(w, {}) - self.largest_code)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"bits": self.bits, "normalize": self.normalize}
