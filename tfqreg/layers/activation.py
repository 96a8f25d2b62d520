r"""Uniform quantization of activations with a learned scale.

    p = clip(round(x / s), low, low + 2^bits - 1),    x_hat = s * p

with `low = 0` after a ReLU and `low = -2^(bits-1)` where the sign counts. Zero is always a level.

Backward: `dE/dx = g * 1{low <= x / s <= high}`. The scale lowers the squared error `mean((x - s
p)^2)` (`scale_from="msqe"`, Choi, El-Khamy and Lee 2018, arXiv 1809.00095) or the task loss
(`scale_from="task"`, LSQ: Esser et al. 2020, arXiv 1902.08153).
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError, diverged
from tfqreg.layers.activation_quantizer import ActivationQuantizer
from tfqreg.quantizers.base import check_bits
from tfqreg.quantizers.uniform import grid_codes, least_squares_scale

# Elements that the squared error is averaged over: the mean over a batch's first samples is an
# unbiased estimate, and spares large activations several passes per step.
SAMPLE_SIZE = 1 << 14
# The fractions of the levels that a signed grid may have below zero, one scale fitted for each: a
# swish needs few of them, an even distribution half. 1/32 of 256 levels are the 8 that a swish's
# -0.28 takes beside a maximum of 9.
FRACTIONS_BELOW_ZERO = (1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)


def first_samples(x: Any) -> Any:
    """Returns the first samples of a batch: about `SAMPLE_SIZE` elements, at least one sample."""
    return x[: max(1, SAMPLE_SIZE // math.prod(n or 1 for n in x.shape[1:]))]


def activation_error(x: Any, scale: Any, low: Any, high: Any, pull: float = 0.0) -> Any:
    """Returns `mean((x - s p)^2)` with the codes `p` held constant.

    Its gradient reaches the scale, and `x` by `pull` times.

    Args:
        x: activations, the samples along the first axis.
        scale: spacing of the levels, a scalar.
        low: the lowest code.
        high: the highest code.
        pull: 0, the default, leaves `x` alone.
    """
    x = first_samples(x)
    held = ops.stop_gradient(x)
    codes = ops.stop_gradient(grid_codes(held, scale, low, high))
    x = held + pull * (x - held) if pull else held
    return ops.mean(ops.square(x - scale * codes))


def grid_error(x: Any, scale: Any, low: Any, high: Any) -> Any:
    """Returns the mean squared distance of each row of `x` to its grid, as a column."""
    return ops.mean(
        ops.square(x - scale * ops.clip(ops.round(x / scale), low, high)), axis=1, keepdims=True
    )


def power_of_two_near(scale: Any, x: Any, low: Any, high: Any) -> Any:
    """Returns, of the powers of two around each scale, the one with the lower `grid_error`.

    Example:
        >>> x = np.linspace(0, 1, 1000, dtype="float32")[None]
        >>> 1 / power_of_two_near(np.float32([[1 / 255]]), x, 0.0, 255.0).numpy()
        array([[256.]], dtype=float32)
    """
    exponent = ops.floor(ops.log2(ops.convert_to_tensor(scale)))
    below, above = (ops.power(2.0, exponent + step) for step in (0.0, 1.0))
    return ops.where(
        grid_error(x, below, low, high) <= grid_error(x, above, low, high), below, above
    )


def fit_grid(
    x: Any, bits: int, signed: bool | None, centred: bool = False, power_of_two: bool = False
) -> tuple[Any, Any]:
    """Returns the scale and the lowest code of least squared error on a sample of activations.

    Args:
        x: activations, the samples along the first axis.
        bits: base-2 logarithm of the number of levels.
        signed: whether some levels are negative; None lets `x` decide.
        centred: gives half of the levels to negative values if there are any; False, the default,
            gives them the fraction of least error.
        power_of_two: takes a power of two for the scale, and half of the levels for negative
            values; False by default.
    """
    x = ops.reshape(first_samples(x), (1, -1))
    levels = 2.0**bits
    fractions = (1 / 2,) if centred or power_of_two else FRACTIONS_BELOW_ZERO
    below = sorted({-min(max(round(levels * part), 1), levels - 1) for part in fractions})
    # One row for each lowest code that comes into question, the unsigned grid first.
    low = ops.convert_to_tensor([[float(n)] for n in (0, *(below if signed is not False else ()))])
    scale = least_squares_scale(x * ops.ones_like(low), low, low + (levels - 1.0), axes=(1,))
    if power_of_two:
        scale = power_of_two_near(scale, x, low, low + (levels - 1.0))
    if signed is False:
        return scale[0, 0], low[0, 0]
    error = grid_error(x, scale, low, low + (levels - 1.0))[:, 0]
    best = 1 + ops.argmin(error[1:])
    if signed is None:
        best = ops.where(ops.min(x) < 0, best, 0)
    return ops.take(scale[:, 0], best), ops.take(low[:, 0], best)


@keras.saving.register_keras_serializable(package="tfqreg")
class QuantizedActivation(ActivationQuantizer):
    """Rounds activations to a grid of `2^bits` levels whose scale is learned.

        p = clip(round(x / s), low, low + 2^bits - 1),    x_hat = s * p

    The scale starts from the first training batch, or from `tfqreg.calibrate(model, data)`; until
    then the layer passes its input through. A layer that is called in several places is one grid
    for all of them. Inputs and outputs are of the same shape, any.

    Args:
        bits: width of the codes, 1 to 8; 8 by default.
        signed: False for what is never negative (after a ReLU), True for the rest; None, the
            default, lets the first data decide.
        scale_from: "msqe" trains the scale to lower the squared error, "task" trains it by the loss
            (LSQ); "msqe" by default.
        fixed_scale: spacing of the levels where an operator dictates it (1/256 after a sigmoid);
            None, the default, for a learned one.
        power_of_two: takes the power of two of least squared error for the scale, from the same
            data, and leaves it: 8-bit dynamic fixed point. What is signed is centred at zero. False
            by default.
        pull: how strongly the squared error also pulls the activations themselves to their levels,
            through the layers before; 0, the default, leaves them alone.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for bits out of range, an unknown `scale_from`, a negative `pull` or one without
            the squared error, a fixed scale that is not positive or whose sign is left to the data,
            or a policy of mixed precision.

    Example:
        >>> import numpy as np
        >>> layer = QuantizedActivation(bits=2, signed=False)
        >>> layer.assign_grid(scale=0.5, low=0)
        >>> np.asarray(layer(np.float32([[-1.0, 0.3, 0.6, 9.0]])))
        array([[0. , 0.5, 0.5, 1.5]], dtype=float32)

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095; Esser et al. 2020, arXiv 1902.08153.
    """

    def __init__(
        self,
        bits: int = 8,
        signed: bool | None = None,
        scale_from: str = "msqe",
        fixed_scale: float | None = None,
        power_of_two: bool = False,
        pull: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bits = check_bits(bits, self.name)
        if scale_from not in ("msqe", "task"):
            raise ModelError(
                self.name,
                '`scale_from` must be "msqe" or "task"',
                received=f"scale_from={scale_from!r}",
            )
        if not 0.0 <= pull < math.inf or (
            pull and (scale_from != "msqe" or fixed_scale is not None)
        ):
            raise ModelError(
                self.name,
                '`pull` must be 0 or more, with scale_from="msqe" and no fixed scale',
                received=f"pull={pull!r}, scale_from={scale_from!r}, fixed_scale={fixed_scale}",
            )
        if fixed_scale is not None and not (fixed_scale > 0 and signed is not None):
            raise ModelError(
                self.name,
                "a fixed scale must be positive, and `signed` True or False with it",
                received=f"fixed_scale={fixed_scale}, signed={signed}",
            )
        self.signed = signed
        self.scale_from = scale_from
        self.fixed_scale = fixed_scale
        self.power_of_two = power_of_two
        self.pull = pull
        # The trained part is relative: what the first batch finds is no gradient step, and belongs
        # to the state.
        base_scale = fixed_scale or 0.0
        low = -(2.0 ** (bits - 1)) if fixed_scale and signed else 0.0
        constant = keras.initializers.Constant
        self.base_scale = self.add_weight(
            shape=(), initializer=constant(base_scale), trainable=False, name="base_scale"
        )
        self.log2_scale = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=fixed_scale is None and not power_of_two,
            name="log2_scale",
        )
        self.low = self.add_weight(shape=(), initializer=constant(low), trainable=False, name="low")
        self.built = True

    @property
    def has_levels(self) -> Any:
        """Whether data has set the levels, a boolean tensor ()."""
        return self.base_scale > 0

    @property
    def scale(self) -> Any:
        """The spacing of the levels; 0 before any data was seen."""
        return ops.convert_to_tensor(self.base_scale) * ops.power(
            2.0, ops.convert_to_tensor(self.log2_scale)
        )

    @property
    def high(self) -> Any:
        """The highest code."""
        return ops.convert_to_tensor(self.low) + (2.0**self.bits - 1.0)

    def fit_grid(self, x: Any, centred: bool = False) -> tuple[Any, Any]:
        """Returns the scale and the lowest code of least squared error, or the fixed ones.

        Args:
            x: activations, the samples along the first axis.
            centred: gives half of the levels to negative values if there are any, whatever `x`
                asks for: training may move values anywhere, and the lowest code stays. False by
                default.
        """
        if self.fixed_scale is not None:
            return ops.convert_to_tensor(self.base_scale), ops.convert_to_tensor(self.low)
        return fit_grid(x, self.bits, self.signed, centred, self.power_of_two)

    def assign_grid(self, scale: float, low: float) -> None:
        """Sets the spacing of the levels and the lowest code."""
        self.base_scale.assign(scale)
        self.log2_scale.assign(0.0)
        self.low.assign(low)

    def calibrate(self, x: Any) -> None:
        """Sets the grid to that of least squared error on activations `x`, samples first."""
        self.assign_grid(*self.fit_grid(x))

    def _in_training(self, x: Any) -> Any:
        base_scale, low = ops.cond(
            self.has_levels,
            lambda: (ops.convert_to_tensor(self.base_scale), ops.convert_to_tensor(self.low)),
            lambda: self.fit_grid(ops.stop_gradient(x), centred=True),
        )
        self.base_scale.assign(base_scale)
        self.low.assign(low)
        if self.scale_from == "msqe" and self.log2_scale.trainable:
            low = ops.convert_to_tensor(self.low)
            self.add_loss(activation_error(x, self.scale, low, self.high, self.pull))
        return self._quantize(x)

    def _quantize(self, x: Any) -> Any:
        scale = ops.where(self.base_scale > 0, self.scale, 1.0)
        if self.scale_from == "msqe" and self.bits > 1:
            # One fused pass forward and one backward on TensorFlow, instead of a dozen.
            low, high = ops.stop_gradient(scale * self.low), ops.stop_gradient(scale * self.high)
            return keras.quantizers.fake_quant_with_min_max_vars(x, low, high, num_bits=self.bits)
        if self.scale_from == "msqe":
            scale = ops.stop_gradient(scale)
        else:
            # LSQ's factor on the gradient of the scale.
            count = math.prod(n or 1 for n in x.shape[1:])
            factor = 1.0 / math.sqrt(count * 2.0 ** (self.bits - 1))
            scale = ops.stop_gradient(scale) + factor * (scale - ops.stop_gradient(scale))
        return grid_codes(x, scale, ops.convert_to_tensor(self.low), self.high) * scale

    def encode(self) -> tuple[float, int]:
        """Returns the spacing of the levels as float32, and the lowest code.

        Raises:
            ModelError: if no data has set the scale, or training diverged.
        """
        scale = np.float32(ops.convert_to_numpy(self.scale))
        # A scale that data has set and training brought to 0 is lost as well.
        if not np.isfinite(scale) or (scale == 0 and bool(self.base_scale != 0)):
            raise diverged(self.name, f"scale={scale}")
        if not scale > 0:
            raise ModelError(
                self.name,
                "the scale is not set",
                "Train the model, or call tfqreg.calibrate(model, data)",
                f"scale={scale}",
            )
        return float(scale), int(ops.convert_to_numpy(self.low))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "signed": self.signed,
            "scale_from": self.scale_from,
            "fixed_scale": self.fixed_scale,
            "pull": self.pull,
            "power_of_two": self.power_of_two,
        }
