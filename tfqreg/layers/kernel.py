"""What the wrapper keeps for one kernel: its quantizer's variables, its mask, its stage, its
penalties.
"""

import enum
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.quantizers import Quantizer
from tfqreg.quantizers.base import Params
from tfqreg.regularizers import Penalty, Pruning
from tfqreg.regularizers.msqe import squared_error


class Stage(enum.IntEnum):
    """Where a kernel stands in training: float weights pruned; quantized; quantized at the full
    coefficient.
    """

    PRUNE = 0
    QUANTIZE = 1
    SETTLE = 2


class QuantizedKernel(keras.layers.Layer):
    """The variables that turn one float kernel into quantized weights; the wrapper calls `weights`
    and `penalty`.

    Everything that changes in training is a variable here: `stage`, the quantizer's `state`, and,
    where the kernel is pruned, `mask` and `threshold`.
    """

    def __init__(
        self,
        kernel: keras.Variable,
        axes: tuple[int, ...],
        quantizer: Quantizer,
        regularizer: Penalty | None,
        prune: Pruning | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantizer, self.regularizer, self.prune = quantizer, regularizer, prune
        self.axes = axes
        self.count = int(np.prod(kernel.shape))
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
                raise ValueError(
                    f"{self.name}: {type(quantizer).__name__} has no level at 0, so its weights "
                    f"cannot be pruned. Use "
                    f"WRPN or Uniform, or leave `prune` out. Received: prune={prune}"
                )
            prune.register(self)
            self.mask = self.add_weight(
                shape=kernel.shape, dtype="bool", initializer="ones", trainable=False, name="mask"
            )
            self.threshold = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="threshold"
            )
        else:
            self.mask = self.threshold = None
        # Weights under this magnitude stay in float where a quantizer takes its weights in parts.
        self.float_below = (
            self.add_weight(shape=(), initializer="zeros", trainable=False, name="float_below")
            if quantizer.incremental
            else None
        )
        quantizer.claim(self, kernel)
        self.state = {
            name: self.add_weight(
                shape=shape,
                dtype=quantizer.state_dtype(name),
                # Called when the variable gets its value, so that the kernel has its own by then.
                initializer=lambda shape, dtype, name=name: self.fitted(kernel)[name],
                trainable=name in quantizer.trainable,
                constraint=quantizer.constraint(name),
                name=name,
            )
            for name, shape in quantizer.state_shapes(tuple(kernel.shape), axes).items()
        }
        for variable in self.state.values():  # those of a frozen layer are frozen with it
            variable.trainable = variable.trainable and self.trainable
        if regularizer is not None:
            regularizer.register(self)
        self.built = True

    def fitted(self, kernel: Any) -> dict[str, Any]:
        """Returns the quantizer's state that suits the surviving weights of `kernel` best."""
        # JAX takes tensors where other backends take variables too.
        mask = None if self.mask is None else ops.convert_to_tensor(self.mask)
        return self.quantizer.fit(ops.convert_to_tensor(kernel), self.axes, mask)

    def fit(self, kernel: Any) -> None:
        """Sets the quantizer's variables to what `fitted` returns."""
        for name, value in self.fitted(kernel).items():
            self.state[name].assign(value)
        self._warn(kernel)

    def _warn(self, kernel: Any) -> None:
        """Says what the user should know of the quantizer and these weights, once the mask is
        final.
        """
        pruning = self.prune is not None and not self.frozen
        note = "" if pruning else self.quantizer.note(kernel, self.mask)
        if note:
            warnings.warn(f"{getattr(kernel, 'path', self.name)}: {note}.", stacklevel=3)

    def set_threshold(self, threshold: float) -> None:
        """Sets the magnitude at and below which the pruning penalty acts."""
        if self.threshold is not None:
            self.threshold.assign(threshold)

    @property
    def frozen(self) -> bool:
        """Whether the mask is final: it prunes some weight, or the threshold, -1, says that none
        was to go.
        """
        if self.threshold is None or bool(self.stage == Stage.PRUNE):
            return False
        return bool(self.threshold < 0) or not bool(ops.all(ops.convert_to_tensor(self.mask)))

    def start_pruning(self) -> None:
        """Enters the stage in which weights are float and the pruned share grows."""
        self.stage.assign(Stage.PRUNE)

    def refit(self, kernel: Any) -> None:
        """Sets the quantizer's variables that no gradient moves to suit the weights as they are
        now.
        """
        for name, value in self.fitted(kernel).items():
            if name not in self.quantizer.trainable:
                self.state[name].assign(value)
        self._warn(kernel)

    def freeze(self, kernel: keras.Variable, mask: np.ndarray) -> None:
        """Zeroes and masks weights for good, fits the quantizer to the rest, ends the stage."""
        if self.mask is not None:
            self.mask.assign(mask)
        self.set_threshold(-1.0 if mask.all() else 0.0)
        kernel.assign(np.where(mask, ops.convert_to_numpy(kernel), 0.0))
        self.stage.assign(Stage.QUANTIZE)
        self.fit(kernel)

    def surviving(self, kernel: Any) -> Any:
        """Returns the kernel with its pruned weights at 0."""
        kernel = ops.convert_to_tensor(kernel)
        return (
            kernel
            if self.mask is None
            else ops.where(ops.convert_to_tensor(self.mask), kernel, 0.0)
        )

    def quantized(self, kernel: Any) -> Any:
        """Returns the quantized weights, pruned ones exactly 0, whatever the stage."""
        w = self.quantizer(self.surviving(kernel), self.state)
        if self.quantizer.has_zero or self.mask is None:
            return w
        return ops.where(ops.convert_to_tensor(self.mask), w, 0.0)

    def weights_in_use(self, kernel: Any) -> Any:
        """Returns the weights the forward pass computes with: float at first, then quantized, in
        parts or at once.
        """
        in_use = self.stage >= self.quantized_from
        return ops.cond(in_use, lambda: self._partly_quantized(kernel), lambda: self._float(kernel))

    def _float(self, kernel: Any) -> Any:
        w = self.surviving(kernel)
        if self.prune is None or not self.prune.revives:
            return w
        # A pruned weight goes on learning while the mask may still give it back.
        learns = ops.cast((self.stage == Stage.PRUNE) & ~ops.convert_to_tensor(self.mask), w.dtype)
        kernel = ops.convert_to_tensor(kernel)
        return w + learns * (kernel - ops.stop_gradient(kernel))

    def _partly_quantized(self, kernel: Any) -> Any:
        q = self.quantized(kernel)
        if self.float_below is None:
            return q
        w = self.surviving(kernel)
        return ops.where(ops.abs(w) >= self.float_below, q, w)

    def grid_squares(self, kernel: Any) -> Any:
        """Returns the sum of squared distances of the surviving weights to their levels."""
        w = self.surviving(kernel)
        # Where 0 is a level, pruned weights stand on it and add nothing.
        mask = (
            None
            if self.quantizer.has_zero or self.mask is None
            else ops.convert_to_tensor(self.mask)
        )
        return squared_error(w, self.quantizer.assign(w, self.state), mask)

    def penalty(self, kernel: Any) -> Any:
        """Returns this kernel's share of the regularizers' cost in its present stage."""
        return ops.cond(
            self.stage == Stage.PRUNE,
            lambda: self._prune_cost(kernel),
            lambda: self._grid_cost(kernel),
        )

    def _prune_cost(self, kernel: Any) -> Any:
        return ops.zeros(()) if self.prune is None else self.prune.grid_cost(self, kernel)

    def _grid_cost(self, kernel: Any) -> Any:
        cost = (
            ops.zeros(()) if self.regularizer is None else self.regularizer.grid_cost(self, kernel)
        )
        if self.quantizer.fits_error and not (self.regularizer and self.regularizer.trains_scale):
            # Weights are left alone here: the scale follows them.
            cost += self.grid_squares(ops.stop_gradient(ops.convert_to_tensor(kernel))) / self.count
        return cost

    def settle(self) -> None:
        """Ends what is learned but the weights: full strength of the regularizer, quantized weights
        in the forward.
        """
        self.stage.assign(Stage.SETTLE)
        if self.float_below is not None:
            self.float_below.assign(0.0)
        self.quantizer.settle(self.state)

    def encode(self, kernel: Any) -> tuple[np.ndarray, Params]:
        """Returns the int8 codes of the kernel, pruned ones 0, and the parameters that decode them."""
        codes, params = self.quantizer.encode(self.surviving(kernel), self.state)
        return (codes if self.mask is None else codes * ops.convert_to_numpy(self.mask)), params
