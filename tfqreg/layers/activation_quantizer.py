"""What every activation quantizer promises, and how its rounding is replaced for a while."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from tfqreg.quantizers.base import check_float32


class ActivationQuantizer(keras.layers.Layer):
    """Base of the layers that round activations to levels found in data.

    The levels come from the first training batch, or from `tfqreg.calibrate(model, data)`; until
    then the layer passes its input through. A subclass sets `bits`, the base-2 logarithm of the
    number of levels, and implements `has_levels`, `calibrate`, `_in_training`, `_quantize` and
    `encode`.

    Args:
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for a policy of mixed precision.
    """

    bits: int

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_float32(self, self.name)
        self._replacement: Callable[[Any, Any], Any] | None = None

    @property
    def has_levels(self) -> Any:
        """Whether data has set the levels, a boolean tensor ()."""
        raise NotImplementedError

    def calibrate(self, x: Any) -> None:
        """Sets the levels to those of least squared error on activations `x`, any shape."""
        raise NotImplementedError

    def encode(self) -> tuple[float, int]:
        """Returns the spacing of the levels as float32, and the lowest code.

        Raises:
            ModelError: for levels that are not set, or lie on no integer grid.
        """
        raise NotImplementedError

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the quantized activations, of the shape of `inputs`."""
        if self._replacement is not None:
            return self._replacement(self, inputs)
        if training:
            return self._in_training(inputs)
        return ops.where(self.has_levels, self._quantize(inputs), inputs)

    def _in_training(self, x: Any) -> Any:
        """Returns the quantized activations of a training batch, from which the levels learn."""
        raise NotImplementedError

    def _quantize(self, x: Any) -> Any:
        """Returns the level nearest to each activation, straight-through between the outermost."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "bits": self.bits}


@contextmanager
def rounding_replaced(
    layers: Sequence[ActivationQuantizer], function: Callable[[ActivationQuantizer, Any], Any]
) -> Iterator[None]:
    """Has `function(layer, x)` compute in place of each layer, as long as the context lasts.

    Example:
        >>> import numpy as np
        >>> from tfqreg.layers import QuantizedActivation
        >>> layer = QuantizedActivation(bits=2, signed=False)
        >>> layer.assign_grid(scale=1.0, low=0)
        >>> with rounding_replaced([layer], lambda layer, x: x):
        ...     print(np.asarray(layer(np.float32([0.4]))))
        [0.4]
        >>> np.asarray(layer(np.float32([0.4])))
        array([0.], dtype=float32)
    """
    before = [layer._replacement for layer in layers]
    try:
        for layer in layers:
            layer._replacement = function
        yield
    finally:
        for layer, replacement in zip(layers, before, strict=True):
            layer._replacement = replacement
