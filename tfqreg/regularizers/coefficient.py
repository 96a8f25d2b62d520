r"""The learnable coefficient: a penalty that sharpens itself.

    cost = exp(omega) * R - alpha * omega

Its gradient in omega, `exp(omega) * R - alpha`, vanishes at `exp(omega) = alpha / R`: as the
penalty R falls, its coefficient grows. With omega eliminated the cost is `alpha * ln R` up to a
constant, so what R is divided by does not matter (Choi, El-Khamy and Lee 2018, arXiv 1809.00095).

The second term enters by its gradient alone: its value, negative and growing, would hide the loss
in every report.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import check_positive
from tfqreg.regularizers.penalty import Penalty

Schedule = Callable[[Any], Any]

# Adam moves every variable by about its learning rate per step; omega has to cover several units
# within one training, so it moves ten times as far.
OMEGA_PER_UNIT = 10.0
# Where a learned omega begins under its equilibrium ln(alpha / R): the penalty pulls at a twentieth
# (exp(-3)) of its strength there, and the loss leads.
HEAD_START = 3.0
# How far over that first equilibrium omega may grow: ln 100, an R fallen a hundredfold.
GROWTH = 4.6
SMALLEST_COEFFICIENT = 1e-30  # stands for a scheduled 0, which has no logarithm


class LearnedPenalty(Penalty):
    """Base of the penalties that weigh a sum of squares by a coefficient, learned if need be.

        cost = exp(omega) R - alpha omega

    One object given to several layers is one coefficient for all of them; `scope="layer"` gives
    each its own.

    Args:
        alpha: pull on a learned coefficient, in units of the loss; the penalty tends to `alpha * ln
            R`.
        coefficient: "learned", the default, a constant, or a callable of the training step that a
            callback evaluates.
        scope: "global", the default, or "layer".
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for an alpha that is no positive number, or an unknown coefficient or scope.

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
    """

    def __init__(
        self,
        alpha: float,
        coefficient: str | float | Schedule = "learned",
        scope: str = "global",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        constant = isinstance(coefficient, int | float) and coefficient > 0
        if coefficient != "learned" and not callable(coefficient) and not constant:
            raise ModelError(
                owner,
                '`coefficient` must be "learned", a positive number or a callable of the step',
                received=f"coefficient={coefficient!r}",
            )
        if scope not in ("global", "layer"):
            raise ModelError(
                owner, '`scope` must be "global" or "layer"', received=f"scope={scope!r}"
            )
        self.alpha = check_positive(alpha, owner, "alpha")
        self.coefficient = coefficient
        self.scope = scope
        self.count = 0
        start = math.log(coefficient) if isinstance(coefficient, int | float) else 0.0
        self.omega_unit = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(start / OMEGA_PER_UNIT),
            trainable=coefficient == "learned",
            name="omega_unit",
        )
        self.largest_omega = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.inf),
            trainable=False,
            name="largest_omega",
        )
        self.smallest_omega = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(-math.inf),
            trainable=False,
            name="smallest_omega",
        )
        self.built = True

    @property
    def learned(self) -> bool:
        """Whether the coefficient is trained."""
        return self.coefficient == "learned"

    @property
    def omega(self) -> Any:
        """The logarithm of the coefficient, `smallest_omega` to `largest_omega`."""
        return ops.maximum(
            ops.minimum(OMEGA_PER_UNIT * self.omega_unit, self.largest_omega), self.smallest_omega
        )

    @property
    def strength_now(self) -> Any:
        """exp(omega)."""
        return ops.exp(self.omega)

    def register(self, quantized_kernel: Any) -> None:
        """Adds the weights of a kernel to N, the number of weights this penalty averages over."""
        self.count += quantized_kernel.count

    def cost(self, squares: Any, count: int) -> Any:
        """Returns `exp(omega) * squares / N`, one layer's part of the cost.

        Its gradient in omega is that of the whole cost, `- alpha omega` included.

        Args:
            squares: sum of the squared errors of the layer, a scalar.
            count: weights of the layer; those of all layers add up to N.
        """
        cost = self.strength_now * squares / self.count
        if not self.learned:
            return cost
        return cost - self.alpha * (self.omega - ops.stop_gradient(self.omega)) * (
            count / self.count
        )

    @property
    def started(self) -> bool:  # type: ignore[override]
        """Whether `start_from` has set a learned omega."""
        return bool(np.isfinite(ops.convert_to_numpy(self.largest_omega)))

    def assign_omega(self, omega: float) -> None:
        """Sets omega."""
        self.omega_unit.assign(omega / OMEGA_PER_UNIT)

    def start_from(
        self, penalty: float, head_start: float = HEAD_START, growth: float = GROWTH
    ) -> None:
        """Sets a learned omega under its equilibrium `ln(alpha / R)`: the loss leads at first.

        Args:
            penalty: R as it is now.
            head_start: how far under the equilibrium to begin; 3 by default.
            growth: how far over the equilibrium omega may grow; 4.6 by default, which stands for
                an R fallen a hundredfold.
        """
        if self.learned and penalty > 0:
            equilibrium = math.log(self.alpha / penalty)
            self.largest_omega.assign(equilibrium + growth)
            self.assign_omega(equilibrium - head_start)

    def start(self, pairs: list[tuple[Any, Any]]) -> None:
        """Starts a learned omega from the squared error to the grid."""
        self.start_from(
            sum(
                float(ops.convert_to_numpy(quantized_kernel.grid_squares(w)))
                for quantized_kernel, w in pairs
            )
            / self.count
        )

    @property
    def at_cap(self) -> bool:
        """Whether omega stands at its largest value, or is not learned."""
        at_largest = self.started and bool(ops.convert_to_numpy(self.omega >= self.largest_omega))
        return at_largest or not self.learned

    def settle(self) -> None:
        """Holds a learned omega that has started at its largest value from now on."""
        if self.learned and self.started:
            self.smallest_omega.assign(
                float(ops.convert_to_numpy(self.largest_omega))
            )  # no shared buffer under JAX

    def at_step(self, step: int, total_steps: int) -> None:
        """Evaluates a scheduled coefficient at a training step."""
        del total_steps
        if callable(self.coefficient):
            value = float(ops.convert_to_numpy(self.coefficient(step)))
            if not math.isfinite(value):
                rule = "`coefficient` must return finite numbers"
                raise ModelError(self.name, rule, received=f"{value} at step {step}")
            self.assign_omega(math.log(max(value, SMALLEST_COEFFICIENT)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        coefficient = self.coefficient
        if callable(coefficient):
            coefficient = keras.saving.serialize_keras_object(coefficient)
        return {
            "name": self.name,
            "alpha": self.alpha,
            "coefficient": coefficient,
            "scope": self.scope,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LearnedPenalty":
        """Returns a penalty of the same configuration, with variables of its own."""
        config = dict(config)
        if isinstance(config["coefficient"], dict):
            config["coefficient"] = keras.saving.deserialize_keras_object(config["coefficient"])
        return cls(**config)
