r"""Sinusoidal regularization with learned bits: `SinReQ`, and a price for each bit.

    cost = lambda_w sum_l R_p + lambda_beta sum_l beta_l
    lambda_beta(t) = bits_strength (f(t; rise) - f(t; fall))

with R_p, lambda_w and f as for `SinReQ`. Weights move freely, then learn with their bits, then
settle on the grid that the bits have left: beta freezes at `fall`.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import check_positive
from tfqreg.regularizers.sinusoidal import SinReQ, rise_at

# `target_bits` steers lambda_beta by the bits reached, as a PI controller does. In units of
# `bits_strength` for each bit off the target:
PROPORTIONAL = 20.0  # at once, for one bit at most
INTEGRAL = 4.0  # added at each of the fifty or so updates of a training
NEAR = 0.25  # bits off the target within which the sum grows, lest it wind up on the way there
# What counts is where the bits will stand in so many steps, for which an optimizer with momentum
# (beta_1 = 0.9: about ten) goes on as it does.
LAG = 10.0
FEWEST_STEPS = 10  # refuses schedules that leave the bits no phase to learn in
# The bits that a training without a target comes to rest at, by its `bits_strength`.
DEFAULT_BITS = 4.0


class LearnedBeta(NamedTuple):
    """Where the bits of one kernel stand: its path, beta in bits, and beta's bounds."""

    path: str
    beta: float
    smallest: int
    largest: int

    @classmethod
    def of(cls, quantized_kernel: Any) -> "LearnedBeta":
        """Returns where those of a `QuantizedKernel` stand."""
        quantizer, state = quantized_kernel.quantizer, quantized_kernel.state
        path = state["beta_unit"].path.rpartition("/")[0]
        beta = round(_number(quantizer.beta(state)), 4)
        return cls(path, beta, quantizer.smallest, quantizer.largest)


@keras.saving.register_keras_serializable(package="tfqreg")
class SinAReQ(SinReQ):
    """`SinReQ` that also learns bits: it pulls those of a `LearnedBits` quantizer down.

        cost = lambda_w sum_l R_p + lambda_beta sum_l beta_l
        lambda_beta(t) = bits_strength (f(t; rise) - f(t; fall))

    As published, the forward pass computes with float weights until training settles. With
    `LearnedBits(loss_aware=True)` it computes with quantized weights from the start.

    If weights do not follow the sine, beta comes to rest at `log2(ln 2 strength E[sin^2] /
    bits_strength)`, E[sin^2] being 1/2.

    Args:
        target_bits: the average beta to come to, without sign: lambda_beta is steered by the bits
            reached. None, the default, leaves lambda_beta alone.
        bits_strength: lambda_beta at its height; by default the one that rests at `target_bits`, or
            at 4.
        strength: lambda_w once it has risen, in units of the loss; 1 by default.
        fall: fraction of the training after which lambda_beta stands at half its height again, and
            the bits freeze; 0.7 by default.
        count: what the bits are counted over: "kernels", as published, where each beta costs the
            same; or "weights", where each costs in proportion to the weights of its kernel, so that
            all together cost what the model's size does. "kernels" by default.
        kwargs: power, reduction, rise and width, as for `SinReQ`.

    Raises:
        ModelError: as `SinReQ`; for phases out of order, or a target or strength that is no
            positive number.

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
        count: str = "kernels",
        **kwargs: Any,
    ) -> None:
        super().__init__(strength=strength, **kwargs)
        if count not in ("kernels", "weights"):
            rule = '`count` must be "kernels" or "weights"'
            raise ModelError("SinAReQ", rule, received=f"count={count!r}")
        self.count = count
        if not self.rise < fall <= 1.0:
            raise ModelError(
                "SinAReQ",
                "the bits learn between `rise` and `fall`, fractions of the training with rise < "
                "fall <= 1",
                received=f"rise={self.rise!r}, fall={fall!r}",
            )
        owner = type(self).__name__
        self.target_bits = (
            None if target_bits is None else check_positive(target_bits, owner, "target_bits")
        )
        if bits_strength is None:
            rest = DEFAULT_BITS if self.target_bits is None else self.target_bits
            bits_strength = math.log(2.0) * self.strength * 0.5 / 2.0**rest
        self.bits_strength = check_positive(bits_strength, owner, "bits_strength")
        self.fall = float(fall)
        self.beta_strength = self._strength("beta_strength")
        self.integral = self._strength("integral")
        self.last_average = self._strength("last_average")
        self.last_step = self._strength("last_step")
        # As functions, or Keras would take the kernels for parts of this layer.
        self._kernels: list[Callable[[], Any]] = []
        self._warned = False

    def register(self, quantized_kernel: Any) -> None:
        """Takes note of the kernel's beta."""
        if not hasattr(quantized_kernel.quantizer, "beta"):
            raise ModelError(
                quantized_kernel.name,
                "SinAReQ learns the bits of a LearnedBits quantizer; SinReQ takes bits as they are",
                received=f"{quantized_kernel.quantizer!r}",
            )
        self._kernels.append(lambda: quantized_kernel)

    def average_bits(self) -> float:
        """Returns the mean beta over all weights, without sign."""
        kernels = [kernel() for kernel in self._kernels]
        betas = [LearnedBeta.of(kernel).beta for kernel in kernels]
        return float(np.average(betas, weights=[kernel.count for kernel in kernels]))

    def check_schedule(self, total_steps: int, begin: int, end: int) -> None:
        """Raises ModelError if the bits have too few steps to learn in, or freeze before that."""
        super().check_schedule(total_steps, begin, end)
        first, last = max(round(self.rise * total_steps), begin), round(self.fall * total_steps)
        if last > end:
            raise ModelError(
                self.name,
                f"the bits freeze at step {end}, before lambda_beta falls at step {last}",
                "Lower `fall`, or raise `settle_from` of tfqreg.Stages",
                f"fall={self.fall}, {total_steps} steps",
            )
        if last - first < FEWEST_STEPS:
            raise ModelError(
                self.name,
                f"the bits would learn for {max(last - first, 0)} steps, from {first} to {last}",
                "Train longer, prune for a smaller fraction of it, or widen `rise` to `fall`",
                f"rise={self.rise}, fall={self.fall}, {total_steps} steps, quantized from step "
                f"{begin}",
            )

    def settle(self) -> None:
        """Warns, once, of bits that came to rest at a bound."""
        betas = [LearnedBeta.of(quantized_kernel()) for quantized_kernel in self._kernels]
        bound = [beta for beta in betas if not beta.smallest < beta.beta < beta.largest]
        if bound and not self._warned:
            words = ", ".join(f"{beta.path} at {beta.beta:g}" for beta in bound)
            warnings.warn(
                f"{self.name}: learned bits stand at a bound. Change `target_bits` or "
                f"`bits_strength`, give beta more steps or `pace`, or widen the bounds of "
                f"LearnedBits, unless that is what you want. Received: {words}",
                stacklevel=2,
            )
        self._warned = True

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns `lambda_w R_p + lambda_beta beta` of one kernel.

        With `count="weights"`, beta counts in proportion to the kernel's size.
        """
        counts = [other().count for other in self._kernels]
        size = (
            quantized_kernel.count * len(counts) / sum(counts) if self.count == "weights" else 1.0
        )
        bits = size * ops.sum(quantized_kernel.quantizer.beta(quantized_kernel.state))
        if self.target_bits is not None:  # what steers is a force, and no part of the loss
            bits -= ops.stop_gradient(bits)
        price = ops.convert_to_tensor(self.beta_strength) * bits
        return super().grid_cost(quantized_kernel, w) + price

    def at_step(self, step: int, total_steps: int) -> None:
        """Sets lambda_w and lambda_beta for a training step.

        With `target_bits`, lambda_beta is steered by the bits reached.
        """
        super().at_step(step, total_steps)
        progress = step / total_steps
        bell = rise_at(progress, self.rise, self.width) - rise_at(progress, self.fall, self.width)
        gain = 1.0
        if self.target_bits is not None and bell > 0.5:
            error = self._expected_bits(step) - self.target_bits
            integral = _number(self.integral) + (INTEGRAL * error if abs(error) < NEAR else 0.0)
            self.integral.assign(integral)
            gain = 1.0 + integral + PROPORTIONAL * min(max(error, -1.0), 1.0)
        self.beta_strength.assign(self.bits_strength * gain * max(bell, 0.0))
        if progress >= self.fall:  # without lambda_beta, R_p alone would let beta creep up
            for kernel in self._kernels:
                kernel().quantizer.settle(kernel().state)

    def _expected_bits(self, step: int) -> float:
        """Returns the average bits expected LAG steps ahead, and notes those of now."""
        average, last, last_step = (
            self.average_bits(),
            _number(self.last_average),
            _number(self.last_step),
        )
        self.last_average.assign(average)
        self.last_step.assign(step)
        return average + (
            LAG * (average - last) / (step - last_step) if last and step > last_step else 0.0
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {
            "target_bits": self.target_bits,
            "bits_strength": self.bits_strength,
            "fall": self.fall,
            "count": self.count,
        }
        return {**super().get_config(), **own}


def _number(value: Any) -> float:
    return float(ops.convert_to_numpy(value).reshape(()))
