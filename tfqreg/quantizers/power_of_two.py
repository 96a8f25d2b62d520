r"""Shift quantization: every weight a signed power of two, or zero.

Levels, in units of u: 0 and +-2^e for e = 0 .. E - 1. A weight goes to the nearest of them, in the
linear metric:

    v = |w| / u,    f = v / 2^floor(log2 v)
    e = floor(log2 v) + 1{f >= 3/2}, at most E - 1;    0 if v <= 1/2

The unit is a power of two: u = 2^(e_max - E + 1), e_max being the smallest exponent for which at
most one weight in 2^bits + 1 lies above the largest level. A trained factor alpha scales all
levels: w_hat = alpha u q.

Backward: `dE/dw = alpha g` (straight through), `dE/dalpha = sum g u q`.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import Params, Quantizer, State, check_bits, straight_through


def nearest_power(v: Any, exponents: Any, most: int) -> Any:
    """Returns the nearest of 0 and +-2^e, e = 0 .. exponents - 1.

    A tie goes up, but |v| <= 1/2 goes to 0.

    Args:
        v: values in units of the smallest level, any shape.
        exponents: number of exponents, a scalar tensor.
        most: what `exponents` never exceeds.

    Example:
        >>> np.asarray(nearest_power(np.float32([0.5, 0.6, -2.9, 3.0, 100.0]), 4.0, 4))
        array([ 0.,  1., -2.,  4.,  8.], dtype=float32)
    """
    magnitude = ops.abs(v)
    power = ops.ones_like(magnitude)
    for e in range(most - 1):  # comparisons are exact, a logarithm is not
        doubles = (magnitude >= 1.5 * 2.0**e) & (exponents > e + 1)
        power = ops.where(doubles, 2.0 ** (e + 1), power)
    return ops.where(magnitude <= 0.5, 0.0, ops.sign(v) * power)


def unit_for(residuals: np.ndarray, exponents: int, bits: int) -> float:
    """Returns the unit, a power of two, that lets few values exceed the largest level.

    At most one in 2^bits + 1 does.

    Args:
        residuals: what the shift quantizer is to hold, any shape.
        exponents: number of its exponents.
        bits: its width, which sets the fraction of values that may overflow.

    Example:
        >>> unit_for(np.float32([0.4, -0.2, 0.1]), exponents=3, bits=4)
        0.125
    """
    magnitudes = np.sort(np.abs(residuals).ravel())[::-1]
    allowed = int(magnitudes.size / (2**bits + 1))
    largest = float(magnitudes[min(allowed, magnitudes.size - 1)]) if magnitudes.size else 0.0
    if largest == 0.0:
        return 1.0
    # largest <= 2^exponent, and = 2^(exponent - 1) at fraction 1/2
    fraction, exponent = math.frexp(largest)
    return 2.0 ** (exponent - (fraction == 0.5) - exponents + 1)


@keras.saving.register_keras_serializable(package="tfqreg")
class PowerOfTwo(Quantizer):
    """Signed powers of two and zero, with a trained factor for the whole kernel.

        w_hat = alpha u q,    q in {0, +-1, +-2, .., +-2^(E-1)}

    for a kernel of any shape; the unit u is a power of two, E the number of exponents.

    `mode="exact"` keeps the levels within an integer: with 5 bits seven exponents, +-1 .. +-64 in
    int8, with 4 bits three, +-1 .. +-4 in int4. `mode="paper"` has the 2^(bits-2) exponents as
    published; from 5 bits on no int8 holds them, so that such a model trains and evaluates, and
    export says why not.

    Args:
        bits: width of a code, 4 or 5 in exact mode, 4 to 7 in paper mode; 5 by default.
        mode: "exact" or "paper"; "exact" by default.

    Raises:
        ModelError: for bits out of range or an unknown mode.

    Example:
        >>> quantizer = PowerOfTwo(bits=4)
        >>> state = quantizer.fit_state(np.float32([[0.5, -0.2, 0.01]]), (1,))
        >>> quantizer.encode(np.float32([[0.5, -0.2, 0.01]]), state)[0]
        array([[ 4, -2,  0]], dtype=int8)

    Reference: Zhao, Gao et al. 2019, arXiv 1903.03046, equation 1.
    """

    trainable = ("alpha",)
    incremental = True

    def __init__(self, bits: int = 5, mode: str = "exact") -> None:
        if mode not in ("exact", "paper"):
            raise ModelError(
                type(self).__name__, '`mode` must be "exact" or "paper"', received=f"mode={mode!r}"
            )
        self.mode = mode
        self.bits = check_bits(
            bits, type(self).__name__, lowest=4, highest=5 if mode == "exact" else 7
        )

    @property
    def exponents(self) -> int:
        """The number of exponents of the shift quantizer: 2^(bits-2), one less in exact mode."""
        return 2 ** (self.bits - 2) - (self.mode == "exact")

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of `unit` and `alpha`, one of each for the whole kernel."""
        return dict.fromkeys(("unit", "alpha"), (1,) * len(kernel_shape))

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns the unit that suits the weights in `mask`, and alpha at 1."""
        w = ops.convert_to_numpy(w)
        ones = np.ones((1,) * w.ndim, np.float32)
        return {
            "unit": ones * np.float32(unit_for(w[kept(w, mask)], self.exponents, self.bits)),
            "alpha": ones,
        }

    def codes(self, w: Any, state: State) -> Any:
        """Returns the codes as floats."""
        return nearest_power(
            w / ops.convert_to_tensor(state["unit"]), float(self.exponents), self.exponents
        )

    def scale(self, state: State) -> Any:
        """Returns alpha u."""
        return ops.convert_to_tensor(state["alpha"]) * ops.convert_to_tensor(state["unit"])

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the level nearest to each weight, constant."""
        return ops.stop_gradient(self(w, state))

    def __call__(self, w: Any, state: State) -> Any:
        """Returns `alpha u q`, with the gradients the module's first lines state."""
        codes = straight_through(self.codes(w, state), w / ops.convert_to_tensor(state["unit"]))
        return codes * self.scale(state)

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns integer codes (int8 in exact mode) and `{"scale": float32, "bits": int}`."""
        codes = ops.convert_to_numpy(self.codes(ops.convert_to_tensor(w), state))
        exact = self.mode == "exact"
        stored = codes.astype(np.int8 if exact else np.int64)
        width = 1 + int(np.abs(stored).max(initial=1)).bit_length()
        return stored, {"scale": ops.convert_to_numpy(self.scale(state)), "bits": width}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"bits": self.bits, "mode": self.mode}


def kept(w: np.ndarray, mask: Any) -> np.ndarray:
    """Returns which weights are in a mask and not 0."""
    return w != 0 if mask is None else (w != 0) & ops.convert_to_numpy(mask).astype(bool)
