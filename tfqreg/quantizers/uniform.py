r"""Uniform symmetric quantization with a learned scale.

Forward, for `bits >= 2` with `n = 2^(bits-1) - 1` (narrow range, as TFLite asks of weights):

    q = clip(round(w / s), -n, n),    w_hat = s * q

and `q = sign(w)`, `sign(0) = +1`, for one bit. Two bits are ternary: {-s, 0, s}. `round` is half to
even.

Backward: `dE/dw = g * 1{|w / s| <= n}`. The scale follows the squared error to the grid alone
(`scale_from="msqe"`, Choi, El-Khamy and Lee 2018, arXiv 1809.00095), or the task loss
(`scale_from="task"`): `dw_hat/ds = q - w/s` inside the range and `+-n` outside, times `1 / sqrt(N *
n)` (LSQ: Esser et al. 2020, arXiv 1902.08153, equations 3 and 5).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import Params, Quantizer, State, check_bits, straight_through

# Where the search for a scale begins, in units of the scale that clips nothing: few bits want
# outliers clipped, and from one start the search may end in a local minimum.
STARTS = (1.0, 0.7, 0.4)


def grid_codes(x: Any, scale: Any, low: Any, high: Any) -> Any:
    """Returns `q = clip(round(x / scale), low, high)` as floats, differentiable in x and scale.

    With `v = x / scale`, `dq/dv = 1{low <= v <= high}`: through `scale * q`, the gradient in
    `scale` is `q - v` inside the range and `q` outside.
    """

    @ops.custom_gradient
    def rounded(v: Any, low: Any, high: Any) -> Any:
        inside = ops.clip(v, low, high)

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            return (
                ops.where(ops.equal(inside, v), upstream, 0.0),
                ops.zeros_like(low),
                ops.zeros_like(high),
            )

        return ops.round(inside), gradient

    v = x / scale
    # JAX wants every tensor of a custom gradient among its arguments.
    return rounded(v, ops.convert_to_tensor(low, v.dtype), ops.convert_to_tensor(high, v.dtype))


def round_to_grid(x: Any, scale: Any, low: Any, high: Any) -> Any:
    """Returns `scale * clip(round(x / scale), low, high)`, differentiable in x alone.

    The gradient is `g * 1{low <= x / scale <= high}`. Both are what `grid_codes` gives, in half
    the passes over memory.
    """

    @ops.custom_gradient
    def rounded(x: Any, scale: Any) -> Any:
        v = x / scale
        inside = ops.clip(v, low, high)

        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            return ops.where(ops.equal(inside, v), upstream, 0.0), ops.zeros_like(scale)

        return ops.round(inside) * scale, gradient

    # TensorFlow takes no variable as the argument of a custom gradient; the copy is none there.
    return rounded(ops.copy(x), scale)


def sign_codes(x: Any) -> Any:
    """Returns +1 where `x >= 0` and -1 elsewhere, as floats."""
    return ops.where(x >= 0, 1.0, -1.0)


def least_squares_scale(
    x: Any,
    low: Any,
    high: Any,
    axes: tuple[int, ...] | None = None,
    weights: Any = None,
    steps: int = 6,
) -> Any:
    """Returns the scale of least squared error to the grid `scale * {low .. high}`.

    From several starts, alternates `q = clip(round(x / s))` and `s = sum(x q) / sum(q^2)`; neither
    half-step ever raises the error, and the best start wins.

    Args:
        x: values of any shape.
        low: the lowest code, 0 or less.
        high: the highest code, 0 or more.
        axes: axes that share one scale; all of them by default. The result keeps them as size 1.
        weights: 0/1 of the shape of `x`; what is 0 does not count. All count by default.
        steps: alternations from each start; 6 by default.
    """
    axes = tuple(range(len(x.shape))) if axes is None else axes
    weights = ops.ones_like(x) if weights is None else ops.cast(weights, x.dtype)
    x = x * weights
    top = ops.max(x, axes, keepdims=True) / ops.maximum(high, 1.0)
    bottom = ops.where(low < 0, ops.max(-x, axes, keepdims=True) / ops.maximum(-low, 1.0), 0.0)
    largest = ops.maximum(top, bottom)
    largest = ops.where(largest > 0, largest, 1.0)
    best, best_error = largest, ops.full_like(largest, np.inf)
    for start in STARTS:
        scale = largest * start
        for _ in range(steps):
            q = ops.clip(ops.round(x / scale), low, high)
            power = ops.sum(q * q, axes, keepdims=True)
            scale = ops.where(
                power > 0, ops.sum(x * q, axes, keepdims=True) / ops.maximum(power, 1.0), scale
            )
        error = ops.sum(
            ops.square(x - scale * ops.clip(ops.round(x / scale), low, high)), axes, keepdims=True
        )
        best = ops.where(error < best_error, scale, best)
        best_error = ops.minimum(error, best_error)
    return best


@keras.saving.register_keras_serializable(package="tfqreg")
class Uniform(Quantizer):
    """Symmetric uniform grid with one learned scale per kernel or per output channel.

        q = clip(round(w / s), -n, n),    w_hat = s q,    n = 2^(bits-1) - 1

    for a kernel of any shape; s is (1, .., 1), or (1, .., channels).

    Args:
        bits: width of the codes, 1 to 8; 8 by default. One bit is binary (-s, s), two bits are
            ternary (-s, 0, s).
        per_channel: one scale for each output channel instead of one for the kernel. By default
            one for the kernel is trained, and the BatchNormalization that follows makes it one for
            each channel in the file; False asks for one in the file too, and `tfqreg.quantize`
            refuses a BatchNormalization behind it.
        narrow: keeps the range symmetric, +-(2^(bits-1) - 1); False adds the code -2^(bits-1). True
            by default.
        scale_from: "msqe" trains the scale to lower the squared error to the grid, "task" trains it
            by the loss (LSQ); "msqe" by default.
        power_of_two: snaps the scale to the nearest power of two when training settles
            (`tfqreg.Stages`), and holds it there; until then it is free, and
            `MSQE(scale_alpha=...)` pulls it. False by default.

    Raises:
        ModelError: for bits out of range or an unknown `scale_from`.

    Example:
        >>> import numpy as np
        >>> state = {"log2_scale": np.float32([-2.0])}
        >>> Uniform(bits=3).encode(np.float32([0.3, -0.6, 5.0]), state)[0]
        array([ 1, -2,  3], dtype=int8)

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095; Esser et al. 2020, arXiv 1902.08153.
    """

    def __init__(
        self,
        bits: int = 8,
        per_channel: bool | None = None,
        narrow: bool = True,
        scale_from: str = "msqe",
        power_of_two: bool = False,
    ) -> None:
        self.bits = check_bits(bits, "Uniform")
        self.per_channel = bool(per_channel)
        self.one_scale = per_channel is False  # asked for, of no matter to a model that is made
        self.narrow = narrow
        if scale_from not in ("msqe", "task"):
            raise ModelError(
                "Uniform",
                '`scale_from` must be "msqe" or "task"',
                received=f"scale_from={scale_from!r}",
            )
        self.scale_from = scale_from
        self.power_of_two = power_of_two

    trainable = ("log2_scale",)

    @property
    def largest_code(self) -> int:
        """The largest code, `2^(bits-1) - 1` (1 for one bit)."""
        return max(1, 2 ** (self.bits - 1) - 1)

    @property
    def smallest_code(self) -> int:
        """The smallest code: the largest's negative, or one less if the range is not narrow."""
        return -self.largest_code - (not self.narrow and self.bits > 1)

    @property
    def fits_error(self) -> bool:  # type: ignore[override]
        """Whether the scale trains on the squared error, and not on the loss."""
        return self.scale_from == "msqe"

    @property
    def has_zero(self) -> bool:  # type: ignore[override]
        """Whether 0 is a level: not so for one bit."""
        return self.bits > 1

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shape of `log2_scale`: (1, .., channels), or (1, .., 1) for the whole kernel.

        A power of two has `snapped` beside it: 1 once the scale stands at one.
        """
        kept = axes if self.per_channel else ()
        shapes = {"log2_scale": tuple(n if i in kept else 1 for i, n in enumerate(kernel_shape))}
        return {**shapes, "snapped": ()} if self.power_of_two else shapes

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns `log2_scale` by least squares: `s = sum(w q) / sum(q^2)`, alternated with `q`.

        Args:
            w: weights, any shape.
            axes: their output-channel axes.
            mask: boolean of the shape of `w`; weights outside it do not count. All count by
                default.
        """
        shared = tuple(i for i in range(len(w.shape)) if not (self.per_channel and i in axes))
        weights = ops.ones_like(w) if mask is None else ops.cast(mask, w.dtype)
        if self.bits == 1:
            count = ops.maximum(ops.sum(weights, shared, keepdims=True), 1.0)
            scale = ops.sum(ops.abs(w) * weights, shared, keepdims=True) / count
            scale = ops.where(scale > 0, scale, 1.0)
        else:
            scale = least_squares_scale(w, self.smallest_code, self.largest_code, shared, weights)
        free = {"snapped": ops.zeros(())} if self.power_of_two else {}
        return {"log2_scale": ops.log2(scale), **free}

    def scale(self, state: State) -> Any:
        """Returns `2 ^ log2_scale`, the exponent a whole number once it has snapped."""
        exponent = ops.convert_to_tensor(state["log2_scale"])
        if self.power_of_two:
            exponent = ops.where(
                ops.convert_to_tensor(state["snapped"]) > 0, ops.round(exponent), exponent
            )
        return ops.power(2.0, exponent)

    def settle(self, state: State) -> None:
        """Snaps a scale that is to be a power of two."""
        if self.power_of_two:
            state["log2_scale"].assign(ops.round(state["log2_scale"]))
            state["snapped"].assign(1.0)

    def positions(self, w: Any, state: State) -> Any:
        """Returns `w / s` (one bit: half of `w / s + 1`), `s` constant.

        The levels are the whole numbers.
        """
        v = w / ops.stop_gradient(self.scale(state))
        return (v + 1.0) / 2.0 if self.bits == 1 else v

    def resolution(self, state: State) -> float:
        """Returns the steps of the grid within its range, `2^(bits-1) - 1`."""
        return 0.5 if self.bits == 1 else float(self.largest_code)

    def codes(self, w: Any, scale: Any) -> Any:
        """Returns the codes as floats, straight-through in `w` inside the range."""
        if self.bits == 1:
            return straight_through(sign_codes(w), ops.clip(w / scale, -1.0, 1.0))
        return grid_codes(w, scale, self.smallest_code, self.largest_code)

    def nearest(self, w: Any, state: State) -> Any:
        """Returns `s * q` with `q` held constant; with `scale_from="task"`, `s` too."""
        scale = self.scale(state)
        levels = scale * ops.stop_gradient(self.codes(w, scale))
        return levels if self.fits_error else ops.stop_gradient(levels)

    def __call__(self, w: Any, state: State) -> Any:
        """Returns `s * q`, with the gradients the module's first lines state."""
        scale = self.scale(state)
        if self.fits_error and self.bits > 1:
            return round_to_grid(w, ops.stop_gradient(scale), self.smallest_code, self.largest_code)
        if self.fits_error:
            scale = ops.stop_gradient(scale)
        else:
            # LSQ's factor on the gradient of the scale, 1 / sqrt(weights per scale * n).
            factor = 1.0 / math.sqrt(
                math.prod(w.shape) / math.prod(scale.shape) * self.largest_code
            )
            scale = ops.stop_gradient(scale) + factor * (scale - ops.stop_gradient(scale))
        return self.codes(w, scale) * scale

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns int8 codes and `{"scale": float32, "bits": int}`, a scale that broadcasts."""
        scale = self.scale(state)
        codes = ops.convert_to_numpy(self.codes(ops.convert_to_tensor(w), scale))
        return codes.astype(np.int8), {"scale": ops.convert_to_numpy(scale), "bits": self.bits}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "bits": self.bits,
            "per_channel": self.per_channel,
            "narrow": self.narrow,
            "scale_from": self.scale_from,
            "power_of_two": self.power_of_two,
        }
