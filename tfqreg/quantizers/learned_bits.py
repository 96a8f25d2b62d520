r"""A uniform grid whose width is learned: beta bits, a real number, one for each kernel.

    spacing = c / (2^beta - 1),    n = 2^ceil(beta) - 1
    q = clip(round(w / spacing), -n, n),    w_hat = q spacing

beta does not count the sign. It is moved by `SinAReQ`; with `loss_aware` by the loss as well,
through the spacing:

    dw_hat/dspacing = q - w/spacing inside the range, +-n outside
    dspacing/dbeta = -c ln 2 2^beta / (2^beta - 1)^2

LSQ's factor `1 / sqrt(N n)` is left out: it would put the loss two orders below the cost of a bit,
in the same loss.

Once settled, beta stands still and the spacing it has reached is kept, so that weights which lie on
the grid stay where they are; rounding beta up gives the range of the codes alone.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.quantizers.base import Params, Quantizer, State, check_bits, check_positive
from tfqreg.quantizers.uniform import grid_codes
from tfqreg.quantizers.wrpn import largest_magnitude, outside_unit_range


@keras.saving.register_keras_serializable(package="tfqreg")
class LearnedBits(Quantizer):
    """Uniform mid-tread grid whose number of bits is learned per kernel; train it with `SinAReQ`.

        spacing = c / (2^beta - 1),    n = 2^ceil(beta) - 1
        q = clip(round(w / spacing), -n, n),    w_hat = q spacing

    for a kernel of any shape; beta is a real number of bits, the sign not counted.

    Args:
        largest: where beta starts, and its upper bound; 7 by default. With the sign, 7 bits fill
            int8.
        smallest: the lower bound of beta, 1 (ternary) by default.
        loss_aware: lets the loss reach beta, through the spacing of the levels. False by default,
            as published.
        normalize: spreads the grid over [-c, c], c being the largest |w| when the quantizer is
            fitted; False takes the range [-1, 1]. True by default.
        pace: how much faster than a weight beta moves, 10 by default: the optimizer trains `beta /
            pace`. Under Adam and its kin a step moves beta by up to `pace` learning rates, under
            SGD by the gradient times `pace^2` learning rates. Beta has some bits to go within one
            training, which may be short.

    Raises:
        ModelError: for bounds out of range or order, or a pace that is no positive number.

    Example:
        >>> import numpy as np
        >>> state = {"beta_unit": 0.2, "range": 1.0, "frozen": 0.0}
        >>> state = {name: np.float32([value]) for name, value in state.items()}
        >>> LearnedBits().encode(np.float32([0.3, -0.7, 5.0]), state)[0]
        array([ 1, -2,  3], dtype=int8)

    Reference: Elthakeb et al. 2020, arXiv 2003.00146; the gradient: Esser et al. 2020, arXiv
    1902.08153, equation 3.
    """

    trainable = ("beta_unit",)

    def __init__(
        self,
        largest: int = 7,
        smallest: int = 1,
        loss_aware: bool = False,
        normalize: bool = True,
        pace: float = 10.0,
    ) -> None:
        self.largest = check_bits(largest, "LearnedBits", highest=7)
        self.smallest = check_bits(smallest, "LearnedBits", highest=self.largest)
        self.loss_aware = loss_aware
        self.normalize = normalize
        self.pace = check_positive(pace, "LearnedBits", "pace")
        self.bits = self.largest + 1

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of `beta_unit`, `range` and `frozen`, one of each per kernel."""
        return dict.fromkeys(("beta_unit", "range", "frozen"), (1,) * len(kernel_shape))

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns `range`, max |w| in `mask` (1 without `normalize`), and beta at its largest."""
        largest = largest_magnitude(w, mask)
        ones = ops.ones_like(largest)
        return {
            "beta_unit": ones * (self.largest / self.pace),
            "range": largest if self.normalize else ones,
            "frozen": ops.zeros_like(ones),
        }

    def note(self, w: Any, mask: Any = None) -> str:
        """Returns a note on weights outside [-1, 1], without `normalize`."""
        return "" if self.normalize else outside_unit_range(w, mask, "LearnedBits")

    @property
    def float_forward(self) -> bool:  # type: ignore[override]
        """Whether training computes with float weights until the bits freeze."""
        return not self.loss_aware

    def constraint(self, name: str) -> Callable[[Any], Any] | None:
        """Returns what keeps beta within its bounds after every step of an optimizer."""
        if name != "beta_unit":
            return None
        return lambda unit: ops.clip(unit, self.smallest / self.pace, self.largest / self.pace)

    def settle(self, state: State) -> None:
        """Freezes beta where it stands."""
        if not bool(ops.all(ops.convert_to_tensor(state["frozen"]) > 0)):
            state["frozen"].assign(ops.copy(self.beta(state)))

    def beta(self, state: State) -> Any:
        """Returns the number of bits without the sign, a real number; `settle` freezes it."""
        frozen = ops.stop_gradient(ops.convert_to_tensor(state["frozen"]))
        return ops.where(frozen > 0, frozen, self.pace * ops.convert_to_tensor(state["beta_unit"]))

    def resolution(self, state: State) -> Any:
        """Returns the steps of the grid within c, `2^beta - 1`."""
        return ops.power(2.0, self.beta(state)) - 1.0

    def scale(self, state: State) -> Any:
        """Returns the spacing of the levels, `c / (2^beta - 1)`."""
        return ops.stop_gradient(ops.convert_to_tensor(state["range"])) / self.resolution(state)

    def largest_code(self, state: State) -> Any:
        """Returns `2^ceil(beta) - 1` as a float."""
        # A beta that rounding has put just above a whole number does not cost another bit.
        return ops.stop_gradient(ops.power(2.0, ops.ceil(self.beta(state) - 1e-4)) - 1.0)

    def positions(self, w: Any, state: State) -> Any:
        """Returns `w (2^beta - 1) / c`, differentiable in beta too.

        The levels are the whole numbers.
        """
        return w / self.scale(state)

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the level nearest to each weight, constant."""
        return ops.stop_gradient(self(w, state))

    def __call__(self, w: Any, state: State) -> Any:
        """Returns `q spacing`, with the gradients the module's first lines state."""
        scale, high = self.scale(state), self.largest_code(state)
        if not self.loss_aware:
            scale = ops.stop_gradient(scale)
        return grid_codes(w, scale, -high, high) * scale

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns int8 codes and `{"scale": float32, "bits": int}`, bits with the sign."""
        scale, high = self.scale(state), self.largest_code(state)
        codes = ops.convert_to_numpy(grid_codes(ops.convert_to_tensor(w), scale, -high, high))
        bits = 1 + int(np.log2(ops.convert_to_numpy(high).max() + 1))
        return codes.astype(np.int8), {"scale": ops.convert_to_numpy(scale), "bits": bits}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "largest": self.largest,
            "smallest": self.smallest,
            "loss_aware": self.loss_aware,
            "normalize": self.normalize,
            "pace": self.pace,
        }
