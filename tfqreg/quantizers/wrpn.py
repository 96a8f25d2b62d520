r"""WRPN's weight quantizer: a mid-tread grid on [-1, 1] with a fixed scale.

Forward, for `k = bits` and `n = 2^(k-1) - 1`:

    q = round(clip(w / c, -1, 1) n),    w_hat = q c / n

Backward: `dE/dw = g * 1{|w| <= c}`. c is 1, or with `normalize` the largest |w| when the quantizer
was fitted.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.quantizers.base import Params, Quantizer, State, check_bits
from tfqreg.quantizers.uniform import grid_codes


def outside_unit_range(w: Any, mask: Any, owner: str) -> str:
    """Returns a note on weights beyond [-1, 1], which a fixed grid clips; "" if there are none."""
    mask = None if mask is None else ops.convert_to_tensor(mask)
    largest = float(ops.convert_to_numpy(largest_magnitude(ops.convert_to_tensor(w), mask)).item())
    if largest <= 1.001:  # rounding aside
        return ""
    return (
        f"weights outside [-1, 1] are clipped, and get no gradient. Use {owner}(normalize=True), "
        f"which takes the range of the weights. Received: largest magnitude {largest:.3g}"
    )


def largest_magnitude(w: Any, mask: Any = None) -> Any:
    """Returns max |w| over the weights in `mask`, of shape (1, .., 1); 1 if all are 0."""
    magnitude = ops.abs(w) if mask is None else ops.where(mask, ops.abs(w), 0.0)
    largest = ops.max(magnitude, axis=tuple(range(len(w.shape))), keepdims=True)
    return ops.where(largest > 0, largest, 1.0)


@keras.saving.register_keras_serializable(package="tfqreg")
class WRPN(Quantizer):
    """Uniform mid-tread grid on [-1, 1], or on the range the weights start with.

        q = round(clip(w / c, -1, 1) n),    w_hat = q c / n,    n = 2^(bits-1) - 1

    for a kernel of any shape.

    Args:
        bits: width of the codes with their sign, 2 to 8: one bit would leave no level but 0. 8 by
            default.
        normalize: spreads the grid over [-c, c], c being the largest |w| when the quantizer is
            fitted; False takes weights for what they are, clipped to [-1, 1]. True by default.

    Raises:
        ModelError: for bits out of range.

    Example:
        >>> import numpy as np
        >>> WRPN(bits=3).encode(np.float32([0.3, -0.6, 5.0]), {"scale": np.float32([1 / 3])})[0]
        array([ 1, -2,  3], dtype=int8)

    Reference: Mishra et al. 2018, arXiv 1709.01134.
    """

    def __init__(self, bits: int = 8, normalize: bool = True) -> None:
        self.bits = check_bits(bits, "WRPN", lowest=2)
        self.normalize = normalize

    @property
    def largest_code(self) -> int:
        """The largest code, `2^(bits-1) - 1`."""
        return 2 ** (self.bits - 1) - 1

    def resolution(self, state: State) -> float:
        """Returns the steps of the grid within c: `2^(bits-1) - 1`."""
        return float(self.largest_code)

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of `scale`: one for the whole kernel."""
        return {"scale": (1,) * len(kernel_shape)}

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns `scale`, c / n.

        c is max |w| of the weights in `mask`, or 1 without `normalize`.
        """
        largest = largest_magnitude(w, mask)
        return {
            "scale": (largest if self.normalize else ops.ones_like(largest)) / self.largest_code
        }

    def note(self, w: Any, mask: Any = None) -> str:
        """Returns a note on weights outside [-1, 1], without `normalize`."""
        return "" if self.normalize else outside_unit_range(w, mask, "WRPN")

    def scale(self, state: State) -> Any:
        """Returns `c / n`, the spacing of the levels."""
        return ops.stop_gradient(ops.convert_to_tensor(state["scale"]))

    def positions(self, w: Any, state: State) -> Any:
        """Returns `w n / c`; the levels are the whole numbers."""
        return w / self.scale(state)

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the level nearest to each weight, constant."""
        return ops.stop_gradient(self(w, state))

    def __call__(self, w: Any, state: State) -> Any:
        """Returns `q c / n`, straight-through inside [-c, c]."""
        scale = self.scale(state)
        return grid_codes(w, scale, -self.largest_code, self.largest_code) * scale

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns int8 codes and `{"scale": float32 (1, .., 1), "bits": int}`."""
        scale = self.scale(state)
        codes = grid_codes(ops.convert_to_tensor(w), scale, -self.largest_code, self.largest_code)
        params = {"scale": ops.convert_to_numpy(scale), "bits": self.bits}
        return ops.convert_to_numpy(codes).astype(np.int8), params

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"bits": self.bits, "normalize": self.normalize}
