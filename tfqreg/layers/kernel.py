"""What the wrapper keeps for one kernel: its quantizer's variables, its mask, its stage, its penalties."""

import enum
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.quantizers import Quantizer
from tfqreg.quantizers.base import Params
from tfqreg.regularizers import PartialL2, Penalty
from tfqreg.regularizers.msqe import squared_error
from tfqreg.regularizers.partial_l2 import partial_squares


class Stage(enum.IntEnum):
    """Where a kernel stands in training: float weights pruned; quantized; quantized at the full coefficient."""

    PRUNE = 0
    QUANTIZE = 1
    SETTLE = 2


class QuantizedKernel(keras.layers.Layer):
    """The variables that turn one float kernel into quantized weights; the wrapper calls `weights` and `penalty`.

    Everything that changes in training is a variable here: `stage`, the quantizer's `state`, and, where the kernel
    is pruned, `mask` and `threshold`.
    """

    def __init__(
        self,
        kernel: keras.Variable,
        axes: tuple[int, ...],
        quantizer: Quantizer,
        regularizer: Penalty | None,
        prune: PartialL2 | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantizer, self.regularizer, self.prune = quantizer, regularizer, prune
        self.axes = axes
        self.count = int(np.prod(kernel.shape))
        late = quantizer.float_forward or (regularizer is not None and regularizer.forward == "float")
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
                    f"{self.name}: {type(quantizer).__name__} has no level at 0, so its weights cannot be pruned. Use "
                    f"WRPN or Uniform, or leave `prune` out. Received: prune={prune}"
                )
            prune.register(self)
            self.mask = self.add_weight(
                shape=kernel.shape, dtype="bool", initializer="ones", trainable=False, name="mask"
            )
            self.threshold = self.add_weight(shape=(), initializer="zeros", trainable=False, name="threshold")
        else:
            self.mask = self.threshold = None
        self.state = {
            name: self.add_weight(
                shape=shape,
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
        return self.quantizer.fit(ops.convert_to_tensor(kernel), self.axes, self.mask)

    def fit(self, kernel: Any) -> None:
        """Sets the quantizer's variables to what `fitted` returns."""
        for name, value in self.fitted(kernel).items():
            self.state[name].assign(value)

    def set_threshold(self, threshold: float) -> None:
        """Sets the magnitude at and below which the pruning penalty acts."""
        if self.threshold is not None:
            self.threshold.assign(threshold)

    @property
    def frozen(self) -> bool:
        """Whether the mask was set: it prunes some weight, or the threshold, -1, says that none was to go."""
        return self.threshold is not None and (bool(self.threshold < 0) or not bool(ops.all(self.mask)))

    def freeze(self, kernel: keras.Variable, threshold: float) -> None:
        """Zeroes and masks the weights at and below a threshold, fits the quantizer to the rest, ends the stage."""
        w = ops.convert_to_numpy(kernel)
        if self.mask is not None:
            self.mask.assign(np.abs(w) > threshold)
        self.set_threshold(threshold)
        kernel.assign(np.where(np.abs(w) > threshold, w, 0.0))
        self.fit(kernel)
        self.stage.assign(Stage.QUANTIZE)

    def surviving(self, kernel: Any) -> Any:
        """Returns the kernel with its pruned weights at 0."""
        kernel = ops.convert_to_tensor(kernel)
        return kernel if self.mask is None else ops.where(ops.convert_to_tensor(self.mask), kernel, 0.0)

    def quantized(self, kernel: Any) -> Any:
        """Returns the quantized weights, pruned ones exactly 0, whatever the stage."""
        w = self.quantizer(self.surviving(kernel), self.state)
        if self.quantizer.has_zero or self.mask is None:
            return w
        return ops.where(ops.convert_to_tensor(self.mask), w, 0.0)

    def weights_in_use(self, kernel: Any) -> Any:
        """Returns the weights the forward pass computes with: float at first, then quantized."""
        return ops.cond(
            self.stage >= self.quantized_from, lambda: self.quantized(kernel), lambda: self.surviving(kernel)
        )

    def grid_squares(self, kernel: Any) -> Any:
        """Returns the sum of squared distances of the surviving weights to their levels."""
        w = self.surviving(kernel)
        # Where 0 is a level, pruned weights stand on it and add nothing.
        mask = None if self.quantizer.has_zero or self.mask is None else ops.convert_to_tensor(self.mask)
        return squared_error(w, self.quantizer.assign(w, self.state), mask)

    def penalty(self, kernel: Any) -> Any:
        """Returns this kernel's share of the regularizers' cost in its present stage."""
        return ops.cond(self.stage == Stage.PRUNE, lambda: self._prune_cost(kernel), lambda: self._grid_cost(kernel))

    def _prune_cost(self, kernel: Any) -> Any:
        if self.prune is None:
            return ops.zeros(())
        return self.prune.cost(partial_squares(ops.convert_to_tensor(kernel), self.threshold), self.count)

    def _grid_cost(self, kernel: Any) -> Any:
        cost = ops.zeros(()) if self.regularizer is None else self.regularizer.grid_cost(self, kernel)
        if self.quantizer.fits_error and not (self.regularizer and self.regularizer.trains_scale):
            # Weights are left alone here: the scale follows them.
            cost += self.grid_squares(ops.stop_gradient(ops.convert_to_tensor(kernel))) / self.count
        return cost

    def settle(self) -> None:
        """Ends what is learned but the weights: full strength of the regularizer, quantized weights in the forward."""
        self.stage.assign(Stage.SETTLE)
        self.quantizer.settle(self.state)

    def encode(self, kernel: Any) -> tuple[np.ndarray, Params]:
        """Returns the int8 codes of the kernel, pruned ones 0, and the parameters that decode them."""
        codes, params = self.quantizer.encode(self.surviving(kernel), self.state)
        return (codes if self.mask is None else codes * ops.convert_to_numpy(self.mask)), params
