r"""Focused quantization: powers of two around the two means of a sparse kernel's weights.

If the weights fall into two components (`mixture.py`) with W >= separation, each weight belongs to
one of them, with mean mu_c a power of two, and what remains of it is shift-quantized with one bit
less:

    w_hat = alpha (Q_shift(w - mu_c) + mu_c)

Otherwise plain shift quantization serves. In units of u all levels are integers: mu_c / u + {0,
+-1, +-2, +-4, +-8} for 5 bits. Components are drawn by their probabilities for each weight, at each
fit. Gradients are those of `PowerOfTwo`.
"""

import zlib
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import State
from tfqreg.quantizers.mixture import Mixture, fit_mixture, obstacle
from tfqreg.quantizers.power_of_two import PowerOfTwo, kept, nearest_power, unit_for

# The largest mean in units of u, by bits: a power of two that int4 (7) and int8 (127) hold with the
# largest residual, 1 and 8, on top.
LARGEST_CENTRE = {4: 4, 5: 64}


@keras.saving.register_keras_serializable(package="tfqreg")
class Focused(PowerOfTwo):
    """Powers of two around two means for sparse kernels that have them, around zero for the rest.

        w_hat = alpha (Q_shift(w - mu_c) + mu_c)

    for a kernel of any shape.

    Args:
        bits: width of a code, 4 or 5 in exact mode, 4 to 7 in paper mode; 5 by default. One bit
            says which mean.
        separation: W from which on a kernel is recentred; 2 by default, where an even mixture of
            two equal Gaussians begins to have two modes. 0 recentres every kernel it can, infinity
            none.
        sample: draws the component of each weight by its probability, repeatably; False takes the
            likelier. True by default, as published.
        mode: "exact" keeps the levels within int8 (5 bits) or int4 (4 bits); "paper" has the
            exponents as published. "exact" by default.

    Raises:
        ModelError: for bits out of range, a negative separation or an unknown mode.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> w = rng.choice([-1, 1], (200, 10)) * rng.normal(0.5, 0.1, (200, 10))
        >>> quantizer = Focused()
        >>> state = quantizer.fit_state(w.astype(np.float32), (1,))
        >>> quantizer.is_recentred(state)
        True

    Reference: Zhao, Gao et al. 2019, arXiv 1903.03046, equations 3 to 6.
    """

    has_zero = False

    def __init__(
        self, bits: int = 5, separation: float = 2.0, sample: bool = True, mode: str = "exact"
    ) -> None:
        super().__init__(bits, mode)
        if not separation >= 0.0:
            raise ModelError(
                "Focused", "`separation` must be 0 or more", received=f"separation={separation!r}"
            )
        self.separation = float(separation)
        self.sample = sample

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the state: `centre` has the kernel's, the others are (1, .., 1)."""
        one = (1,) * len(kernel_shape)
        return {"unit": one, "alpha": one, "exponent_count": one, "centre": kernel_shape}

    @property
    def residual_exponents(self) -> int:
        """The number of exponents around a mean: 2^(bits-3)."""
        return 2 ** (self.bits - 3)

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns the state that suits the weights in `mask`, recentred if they have two means."""
        w = ops.convert_to_numpy(w)
        mixture = fit_mixture(w[kept(w, mask)])
        if mixture is None or mixture.separation < self.separation:
            shift = super().fit_state(w, axes, mask)
            count = np.full_like(shift["unit"], self.exponents)
            return {**shift, "exponent_count": count, "centre": np.zeros_like(w)}
        return self._recentred(w, mask, mixture)

    def note(self, w: Any, mask: Any = None) -> str:
        """Returns why a kernel is not recentred, or that none of it is pruned; else ""."""
        w = ops.convert_to_numpy(w)
        survives = kept(w, mask)
        reason = obstacle(w[survives])
        if reason and np.isfinite(self.separation):
            return f"shift quantization takes the place of the focused one: {reason}"
        if survives.all():
            return (
                "none of its weights is pruned, and focused quantization expects a sparse kernel: "
                "give it `prune`"
            )
        return ""

    def _recentred(self, w: np.ndarray, mask: Any, mixture: Mixture) -> State:
        means = np.array([_power_of_two(mean) for mean in mixture.means])
        chance = mixture.responsibility(w)
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(w).tobytes()))
        upper = rng.random(w.shape) < chance if self.sample else chance > 0.5
        centre = means[upper.astype(int)]
        unit = unit_for((w - centre)[kept(w, mask)], self.residual_exponents, self.bits - 1)
        if self.mode == "exact":
            unit = max(unit, float(np.abs(means).max()) / LARGEST_CENTRE[self.bits])
        ones = np.ones((1,) * w.ndim, np.float32)
        return {
            "unit": ones * np.float32(unit),
            "alpha": ones,
            "exponent_count": ones * self.residual_exponents,
            "centre": np.round(centre / unit).astype(np.float32),
        }

    def is_recentred(self, state: State) -> bool:
        """Returns whether a kernel's levels stand around two means."""
        return bool(ops.any(ops.convert_to_tensor(state["centre"]) != 0))

    def codes(self, w: Any, state: State) -> Any:
        """Returns the codes as floats: `mu_c / u` plus the residual's power of two."""
        centre = ops.convert_to_tensor(state["centre"])
        residual = w / ops.convert_to_tensor(state["unit"]) - centre
        count = ops.convert_to_tensor(state["exponent_count"])
        return centre + nearest_power(residual, count, max(self.exponents, self.residual_exponents))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "bits": self.bits,
            "separation": self.separation,
            "sample": self.sample,
            "mode": self.mode,
        }


def _power_of_two(x: float) -> float:
    """Returns the nearest signed power of two, in the linear metric; 0 for 0."""
    if x == 0.0:
        return 0.0
    fraction, exponent = np.frexp(abs(x))  # fraction in [1/2, 1)
    return float(np.copysign(2.0 ** (int(exponent) - (fraction < 0.75)), x))
