r"""Sinusoidal regularization: a penalty that is zero on every level of the grid and bounded between them.

    R_p = (1/N) sum_w sin^2(pi v(w)) / 2^(p beta)

for each kernel, v being the weight's position on the grid of its quantizer, whose levels are the whole numbers, so that
period and offset are those of the quantizer that is really used; 2^beta = steps of the grid within the range + 1. The
cost is `lambda_w sum_l R_p`, and for learned bits `+ lambda_beta sum_l beta_l`.

Over a training of T steps, with `f(t; c) = (1 + tanh((t - c T) / (s T))) / 2`:

    lambda_w(t) = strength f(t; rise),    lambda_beta(t) = bits_strength (f(t; rise) - f(t; fall))

so weights move freely, then learn with their bits, then settle on the grid that the bits have left.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.regularizers.penalty import Penalty

# Steering by the bits reached, in units of `bits_strength` for each bit off the target: at once, and added at each of
# the fifty or so updates of a training.
PROPORTIONAL, INTEGRAL = 4.0, 0.3
LARGEST_GAIN = 50.0


def sine_squares(positions: Any) -> Any:
    """Returns `sin^2(pi v)`, exactly 0 at whole v; the gradient in v is `pi sin(2 pi v)`.

    Example:
        >>> import numpy as np
        >>> np.asarray(sine_squares(np.float32([0.0, 3.0, 7.5])))
        array([0., 0., 1.], dtype=float32)
    """
    return ops.square(ops.sin(math.pi * (positions - ops.stop_gradient(ops.round(positions)))))


def rise_at(progress: float, centre: float, width: float) -> float:
    """Returns `(1 + tanh((t - centre) / width)) / 2`.

    Example:
        >>> rise_at(0.2, 0.2, 0.02)
        0.5
    """
    return 0.5 * (1.0 + math.tanh((progress - centre) / width))


@keras.saving.register_keras_serializable(package="tfqreg")
class SinReQ(Penalty):
    """Pulls weights to the levels of their quantizer by sin^2; the bits are the quantizer's.

    Args:
        strength: lambda_w once it has risen, in units of the loss; 1 by default.
        power: p of R_p, 0, 1 or 2; 1 by default, for which the gradient in beta neither explodes nor vanishes.
        reduction: "mean" over the weights of a kernel, or "sum"; "mean" by default.
        rise: share of the training after which lambda_w stands at half its strength; 0.2 by default.
        width: s, share of the training a transition takes; 0.02 by default.

    Raises:
        ValueError: for a strength that is no positive number, or a power, reduction, rise or width out of range.

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
        super().__init__(**kwargs)
        self.strength = _positive(self, "strength", strength)
        if power not in (0, 1, 2):
            raise ValueError(f"{type(self).__name__}: `power` must be 0, 1 or 2. Received: power={power!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(
                f'{type(self).__name__}: `reduction` must be "mean" or "sum". Received: reduction={reduction!r}'
            )
        if not 0.0 <= rise <= 1.0:
            raise ValueError(f"{type(self).__name__}: `rise` is a share of the training. Received: rise={rise!r}")
        self.power, self.reduction, self.rise = power, reduction, float(rise)
        self.width = _positive(self, "width", width)
        self.weight_strength = self._strength("weight_strength")
        self.built = True

    def _strength(self, name: str) -> keras.Variable:
        return self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)

    @property
    def strength_now(self) -> Any:
        """lambda_w."""
        return ops.convert_to_tensor(self.weight_strength)

    def register(self, kernel: Any) -> None:
        """Checks that the quantizer of a kernel has one uniform grid."""
        if not hasattr(kernel.quantizer, "positions"):
            raise ValueError(
                f"{kernel.name}: {type(self).__name__} needs a quantizer on one uniform grid, such as WRPN, DoReFa, "
                f"Uniform or LearnedBits. Received: {kernel.quantizer!r}"
            )

    def grid_cost(self, kernel: Any, w: Any) -> Any:
        """Returns `lambda_w R_p` of one kernel.

        Args:
            kernel: the `QuantizedKernel`.
            w: its float weights.
        """
        return self.strength_now * self.measure(kernel, w)

    def measure(self, kernel: Any, w: Any) -> Any:
        """Returns R_p of one kernel."""
        squares = sine_squares(kernel.quantizer.positions(kernel.surviving(w), kernel.state))
        total = ops.sum(squares) if self.reduction == "sum" else ops.mean(squares)
        return total / ops.sum(ops.power(kernel.quantizer.resolution(kernel.state) + 1.0, float(self.power)))

    def at_step(self, step: int, total_steps: int) -> None:
        """Sets lambda_w for a training step."""
        self.weight_strength.assign(self.strength * rise_at(step / total_steps, self.rise, self.width))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        names = ("name", "strength", "power", "reduction", "rise", "width")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="tfqreg")
class SinAReQ(SinReQ):
    """`SinReQ` with learned bits: pulls weights to the levels, and the bits of a `LearnedBits` quantizer down.

    As published, the forward pass computes with float weights until training settles; then the bits freeze. With
    `LearnedBits(loss_aware=True)` it computes with quantized weights from the start.

    Where weights do not follow the sine, beta comes to rest at `log2(ln 2 strength E[sin^2] / bits_strength)`, E[sin^2]
    being 1/2.

    Args:
        target_bits: the average beta to come to, without sign: lambda_beta is steered by the bits reached. None, the
            default, leaves lambda_beta alone.
        bits_strength: lambda_beta at its height; by default the one that rests at `target_bits`, or at 4.
        fall: share of the training after which lambda_beta stands at half its height again; 0.7 by default.
        strength, power, reduction, rise, width: as for `SinReQ`.

    Raises:
        ValueError: as `SinReQ`; for phases out of order, or a target or strength that is no positive number.

    Example:
        >>> round(SinAReQ(target_bits=4).bits_strength, 4)
        0.0217

    Reference: Elthakeb et al. 2020, arXiv 2003.00146.
    """

    def __init__(
        self,
        target_bits: float | None = None,
        bits_strength: float | None = None,
        strength: float = 1.0,
        fall: float = 0.7,
        **kwargs: Any,
    ) -> None:
        super().__init__(strength=strength, **kwargs)
        if not self.rise < fall <= 1.0:
            raise ValueError(
                "SinAReQ: the bits learn between `rise` and `fall`, shares of the training with rise < fall <= 1. "
                f"Received: rise={self.rise!r}, fall={fall!r}"
            )
        self.target_bits = None if target_bits is None else _positive(self, "target_bits", target_bits)
        if bits_strength is None:
            rest = 4.0 if self.target_bits is None else self.target_bits
            bits_strength = math.log(2.0) * self.strength * 0.5 / 2.0**rest
        self.bits_strength = _positive(self, "bits_strength", bits_strength)
        self.fall = float(fall)
        self.beta_strength = self._strength("beta_strength")
        self.integral = self._strength("integral")
        self._readers: list[Callable[[], tuple[float, int]]] = []

    def register(self, kernel: Any) -> None:
        """Takes note of the kernel's beta."""
        if not hasattr(kernel.quantizer, "beta"):
            raise ValueError(
                f"{kernel.name}: SinAReQ learns the bits of a LearnedBits quantizer; SinReQ takes bits as they are. "
                f"Received: {kernel.quantizer!r}"
            )
        self._readers.append(lambda: (_number(kernel.quantizer.beta(kernel.state)), kernel.count))

    def average_bits(self) -> float:
        """Returns the mean beta over all weights, without sign."""
        betas, counts = zip(*(read() for read in self._readers), strict=True)
        return float(np.average(betas, weights=counts))

    def grid_cost(self, kernel: Any, w: Any) -> Any:
        """Returns `lambda_w R_p + lambda_beta beta` of one kernel."""
        bits = ops.sum(kernel.quantizer.beta(kernel.state))
        return super().grid_cost(kernel, w) + ops.convert_to_tensor(self.beta_strength) * bits

    def at_step(self, step: int, total_steps: int) -> None:
        """Sets lambda_w and lambda_beta for a training step; with `target_bits`, steers by the bits reached."""
        super().at_step(step, total_steps)
        progress = step / total_steps
        bell = rise_at(progress, self.rise, self.width) - rise_at(progress, self.fall, self.width)
        gain = 1.0
        if self.target_bits is not None and bell > 0.5:
            error = self.average_bits() - self.target_bits
            integral = np.clip(_number(self.integral) + INTEGRAL * error, -LARGEST_GAIN, LARGEST_GAIN)
            self.integral.assign(integral)
            gain = 1.0 + integral + PROPORTIONAL * error
        self.beta_strength.assign(self.bits_strength * gain * max(bell, 0.0))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"target_bits": self.target_bits, "bits_strength": self.bits_strength, "fall": self.fall}
        return {**super().get_config(), **own}


def _number(value: Any) -> float:
    return float(ops.convert_to_numpy(value).reshape(()))


def _positive(owner: Any, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{type(owner).__name__}: `{name}` must be a positive number. Received: {name}={value!r}")
    return float(value)
