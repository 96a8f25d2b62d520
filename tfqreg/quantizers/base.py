"""What every weight quantizer promises: three faces over one arithmetic.

`quantizer(w, state)` runs in the forward pass, `encode` gives the integer codes that ship, `decode`
gives back the floats, and `quantizer(w, state) == decode(*encode(w, state))` holds bit for bit in
float32.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError

State = dict[str, Any]  # what a quantizer has learned of one kernel, by name
Params = dict[str, Any]  # what turns codes into floats, "scale" and "bits" among it


class Quantizer:
    """Base of the weight quantizers, which are plain configurations.

    What a quantizer learns lives in variables of the layer: a subclass declares them in
    `state_shapes`, gives them values that suit some weights in `fit_state`, and implements
    `nearest`, `__call__` and `encode`. `state` maps the declared names to variables (or tensors).
    """

    bits: int
    trainable: tuple[str, ...] = ()  # the variables that gradients reach
    fits_error: bool = False  # whether its variables train on the squared error to the grid
    has_zero: bool = True  # whether 0 is a level, so that a pruned weight is quantized to 0
    prunable: bool = True  # whether weights may be pruned at all
    float_forward: bool = False  # whether training computes with float weights until it settles
    incremental: bool = False  # whether training quantizes the weights in parts, the largest first

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of every variable by name.

        Args:
            kernel_shape: shape of the kernel.
            axes: its output-channel axes.
        """
        raise NotImplementedError

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns the state that suits the weights `w`.

        Args:
            w: weights, any shape.
            axes: their output-channel axes.
            mask: boolean of the shape of `w`; weights outside it do not count. All count by
                default.
        """
        raise NotImplementedError

    def note(self, w: Any, mask: Any = None) -> str:
        """Returns what the user should know of a kernel that does not suit; "" by default."""
        return ""

    def state_dtype(self, name: str) -> str:
        """Returns the dtype of a variable; float32 by default."""
        return "float32"

    def claim(self, quantized_kernel: Any, weights: keras.Variable) -> None:
        """Marks weights that need an optimizer of their own; called before the state is made.

        Args:
            quantized_kernel: the `QuantizedKernel`.
            weights: its float weights.
        """

    def on_grid(self, state: State) -> bool:
        """Returns whether each output channel has its levels on one integer grid.

        If not, `project` puts them there.
        """
        return True

    def project(self, state: State) -> State:
        """Returns what of the state changes to put the levels on an integer grid; {} by default."""
        return {}

    def constraint(self, name: str) -> Callable[[Any], Any] | None:
        """Returns what an optimizer applies to a variable after every step; nothing by default."""

    def settle(self, state: State) -> None:
        """Freezes what is to stand still at the end of training."""

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the level nearest to each weight, constant in `w`.

        Its gradient reaches the scale if `fits_error` holds.
        """
        raise NotImplementedError

    def __call__(self, w: Any, state: State) -> Any:
        """Returns the quantized weights, differentiable in `w` by a straight-through estimator."""
        raise NotImplementedError

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns int8 codes in the shape of `w`, and the parameters that `decode` takes."""
        raise NotImplementedError

    def code_positions(self, w: Any, params: Params) -> np.ndarray:
        """Returns where float weights lie on the axis of the codes, `w / scale`, for pictures."""
        return np.asarray(w, np.float32) / params["scale"]

    @staticmethod
    def decode(codes: np.ndarray, params: Params) -> np.ndarray:
        """Returns the float32 weights of `codes`: `codes * scale`."""
        return codes.astype(np.float32) * params["scale"]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Quantizer":
        """Returns a quantizer of the same configuration."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def check_bits(bits: int, owner: str, lowest: int = 1, highest: int = 8) -> int:
    """Returns `bits`; raises ModelError if it is no whole number of `lowest` to `highest`."""
    if (
        isinstance(bits, bool)
        or not isinstance(bits, int | np.integer)
        or not lowest <= bits <= highest
    ):
        rule = f"`bits` must be a whole number of {lowest} to {highest}"
        raise ModelError(owner, rule, received=f"bits={bits!r}")
    return int(bits)


def check_positive(value: Any, owner: str, name: str) -> float:
    """Returns `value`; raises ModelError if it is no positive number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (math.isfinite(value) and value > 0)
    ):
        raise ModelError(owner, f"`{name}` must be a positive number", received=f"{name}={value!r}")
    return float(value)


def check_float32(layer: Any, owner: str) -> None:
    """Raises ModelError for a layer of mixed precision, in which levels would not be exact."""
    if layer.compute_dtype != "float32":
        raise ModelError(
            owner,
            "quantization is simulated in float32",
            'Build the model under keras.config.set_dtype_policy("float32")',
            f"{layer.dtype_policy}",
        )


def straight_through(rounded: Any, x: Any) -> Any:
    """Returns `rounded` exactly, with the gradient of `x`.

    The added difference is zero in every bit, which `x + stop_gradient(rounded - x)` is not.
    """
    return keras.ops.stop_gradient(rounded) + (x - keras.ops.stop_gradient(x))
