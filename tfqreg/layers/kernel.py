"""What the wrapper keeps for one kernel: quantizer's variables, mask, stage and penalties."""

import enum
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers import Quantizer
from tfqreg.quantizers.base import Params
from tfqreg.regularizers import Penalty, Pruning
from tfqreg.regularizers.msqe import squared_error


class Stage(enum.IntEnum):
    """Where a kernel stands in training."""

    PRUNE = 0  # weights are float, and pruned
    QUANTIZE = 1  # weights are quantized
    SETTLE = 2  # weights are quantized, and the regularizer acts at its full coefficient


class QuantizedKernel(keras.layers.Layer):
    """The variables that turn one kernel's float weights into quantized ones.

    The wrapper calls `weights_in_use` and `penalty`. Everything that changes in training is a
    variable here: `stage`, the quantizer's `state`, and, if the kernel is pruned, `mask` and
    `threshold`.

    Args:
        weights: the float kernel, a variable of any shape.
        axes: its output-channel axes.
        quantizer: of the weights.
        regularizer: penalty towards the grid, or None.
        prune: penalty towards zero and mask, or None.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for pruning with a quantizer that has no level at 0, and what `quantizer`,
            `regularizer` and `prune` refuse.
    """

    def __init__(
        self,
        weights: keras.Variable,
        axes: tuple[int, ...],
        quantizer: Quantizer,
        regularizer: Penalty | None,
        prune: Pruning | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantizer, self.regularizer, self.prune = quantizer, regularizer, prune
        self.axes = axes
        self.count = int(np.prod(weights.shape))
        late = quantizer.float_forward or (
            regularizer is not None and regularizer.forward == "float"
        )
        self.quantized_from = Stage.SETTLE if late else Stage.QUANTIZE
        self.stage = self.add_weight(
            shape=(),
            dtype="int32",
            initializer=keras.initializers.Constant(Stage.QUANTIZE),
            trainable=False,
            name="stage",
        )
        if prune is not None:
            if not quantizer.prunable:
                raise ModelError(
                    self.name,
                    f"{type(quantizer).__name__} has no level at 0, so its weights cannot be "
                    "pruned",
                    "Use WRPN or Uniform, or leave `prune` out",
                    f"prune={prune}",
                )
            prune.register(self)
            self.mask = self.add_weight(
                shape=weights.shape, dtype="bool", initializer="ones", trainable=False, name="mask"
            )
            self.threshold = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="threshold"
            )
        else:
            self.mask = self.threshold = None
        # Weights under this magnitude stay in float if a quantizer takes its weights in parts.
        self.float_below = (
            self.add_weight(shape=(), initializer="zeros", trainable=False, name="float_below")
            if quantizer.incremental
            else None
        )
        quantizer.claim(self, weights)
        self.state = {
            name: self.add_weight(
                shape=shape,
                dtype=quantizer.state_dtype(name),
                # Called when the variable gets its value, so that the kernel has its own by then.
                initializer=lambda shape, dtype, name=name: self.fitted(weights)[name],
                trainable=name in quantizer.trainable,
                constraint=quantizer.constraint(name),
                name=name,
            )
            for name, shape in quantizer.state_shapes(tuple(weights.shape), axes).items()
        }
        for variable in self.state.values():  # those of a frozen layer are frozen with it
            variable.trainable = variable.trainable and self.trainable
        if regularizer is not None:
            regularizer.register(self)
        self.built = True

    def fitted(self, weights: Any) -> dict[str, Any]:
        """Returns the quantizer's state that suits the surviving `weights` best."""
        # JAX takes tensors where other backends take variables too.
        mask = None if self.mask is None else ops.convert_to_tensor(self.mask)
        return self.quantizer.fit_state(ops.convert_to_tensor(weights), self.axes, mask)

    def fit_quantizer(self, weights: Any) -> None:
        """Sets the quantizer's variables to what `fitted` returns."""
        for name, value in self.fitted(weights).items():
            self.state[name].assign(value)
        self._warn(weights)

    def _warn(self, weights: Any) -> None:
        """Warns of a quantizer that does not suit these weights, once the mask is final."""
        if self.prune is not None and not self.frozen:
            return
        if bool(ops.any(self.surviving(weights))):
            note = self.quantizer.note(weights, self.mask)
        else:
            note = (
                "every weight is 0, the layer is exported as zeros. If it is to learn, train the "
                "float model first"
            )
        if note:
            warnings.warn(f"{getattr(weights, 'path', self.name)}: {note}.", stacklevel=3)

    def set_threshold(self, threshold: float) -> None:
        """Sets the magnitude at and below which the pruning penalty acts."""
        if self.threshold is not None:
            self.threshold.assign(threshold)

    @property
    def frozen(self) -> bool:
        """Whether the mask is final.

        It then prunes some weight, or the threshold, -1, says that none was to go.
        """
        if self.threshold is None or bool(self.stage == Stage.PRUNE):
            return False
        return bool(self.threshold < 0) or not bool(ops.all(ops.convert_to_tensor(self.mask)))

    def start_pruning(self) -> None:
        """Enters the stage in which weights are float and the pruned fraction grows."""
        self.stage.assign(Stage.PRUNE)

    def refit(self, weights: Any) -> None:
        """Sets those of the quantizer's variables that no gradient moves to suit the weights."""
        for name, value in self.fitted(weights).items():
            if name not in self.quantizer.trainable:
                self.state[name].assign(value)
        self._warn(weights)

    def freeze(self, weights: keras.Variable, mask: np.ndarray) -> None:
        """Zeroes and masks weights for good, fits the quantizer to the rest, ends the stage."""
        if self.mask is not None:
            self.mask.assign(mask)
        self.set_threshold(-1.0 if mask.all() else 0.0)
        weights.assign(np.where(mask, ops.convert_to_numpy(weights), 0.0))
        self.stage.assign(Stage.QUANTIZE)
        self.fit_quantizer(weights)

    def surviving(self, weights: Any) -> Any:
        """Returns the kernel with its pruned weights at 0."""
        weights = ops.convert_to_tensor(weights)
        return (
            weights
            if self.mask is None
            else ops.where(ops.convert_to_tensor(self.mask), weights, 0.0)
        )

    def quantized(self, weights: Any) -> Any:
        """Returns the quantized weights, pruned ones exactly 0, whatever the stage."""
        w = self.quantizer(self.surviving(weights), self.state)
        if self.quantizer.has_zero or self.mask is None:
            return w
        return ops.where(ops.convert_to_tensor(self.mask), w, 0.0)

    def weights_in_use(self, weights: Any) -> Any:
        """Returns the weights that the forward pass computes with in the present stage."""
        in_use = self.stage >= self.quantized_from
        return ops.cond(
            in_use, lambda: self._partly_quantized(weights), lambda: self._float(weights)
        )

    def _float(self, weights: Any) -> Any:
        w = self.surviving(weights)
        if self.prune is None or not self.prune.revives:
            return w
        # A pruned weight goes on learning while the mask may still give it back.
        learns = ops.cast((self.stage == Stage.PRUNE) & ~ops.convert_to_tensor(self.mask), w.dtype)
        weights = ops.convert_to_tensor(weights)
        return w + learns * (weights - ops.stop_gradient(weights))

    def _partly_quantized(self, weights: Any) -> Any:
        q = self.quantized(weights)
        if self.float_below is None:
            return q
        w = self.surviving(weights)
        return ops.where(ops.abs(w) >= self.float_below, q, w)

    def grid_squares(self, weights: Any) -> Any:
        """Returns the sum of squared distances of the surviving weights to their levels."""
        w = self.surviving(weights)
        # If 0 is a level, pruned weights stand on it and add nothing.
        mask = (
            None
            if self.quantizer.has_zero or self.mask is None
            else ops.convert_to_tensor(self.mask)
        )
        return squared_error(w, self.quantizer.nearest(w, self.state), mask)

    def penalty(self, weights: Any) -> Any:
        """Returns this kernel's part of the regularizers' cost in its present stage."""
        return ops.cond(
            self.stage == Stage.PRUNE,
            lambda: self._prune_cost(weights),
            lambda: self._grid_cost(weights),
        )

    def _prune_cost(self, weights: Any) -> Any:
        return ops.zeros(()) if self.prune is None else self.prune.grid_cost(self, weights)

    def _grid_cost(self, weights: Any) -> Any:
        cost = (
            ops.zeros(()) if self.regularizer is None else self.regularizer.grid_cost(self, weights)
        )
        if self.quantizer.fits_error and not (self.regularizer and self.regularizer.trains_scale):
            # Weights are left alone here: the scale follows them.
            cost += (
                self.grid_squares(ops.stop_gradient(ops.convert_to_tensor(weights))) / self.count
            )
        return cost

    def settle(self) -> None:
        """Ends what is learned but the weights.

        The regularizer acts at full strength, the forward pass computes with quantized weights.
        """
        self.stage.assign(Stage.SETTLE)
        if self.float_below is not None:
            self.float_below.assign(0.0)
        self.quantizer.settle(self.state)

    def encode(self, weights: Any) -> tuple[np.ndarray, Params]:
        """Returns the int8 codes, pruned ones 0, and the parameters that decode them."""
        codes, params = self.quantizer.encode(self.surviving(weights), self.state)
        return (codes if self.mask is None else codes * ops.convert_to_numpy(self.mask)), params
