"""What a wrapped kernel asks of its regularizer."""

from typing import Any

import keras


class Penalty(keras.layers.Layer):
    """Base of the regularizers: a layer that wrappers share, so that its variables are saved with the model.

    `scope` says whether the wrappers that were given one object share it ("global") or copy it ("layer"); `forward`
    whether training computes with "quantized" weights or with "float" ones until it settles; `trains_scale` whether the
    penalty's own gradient moves the scale of the grid; `started` whether `start_from` has been called, or need not be.
    """

    scope = "global"
    forward = "quantized"
    trains_scale = False
    started = True

    def register(self, kernel: Any) -> None:
        """Takes note of a `QuantizedKernel` that the penalty acts on; raises ValueError where they do not suit."""

    def grid_cost(self, kernel: Any, w: Any) -> Any:
        """Returns one kernel's share of the cost.

        Args:
            kernel: the `QuantizedKernel`.
            w: its float weights.
        """
        raise NotImplementedError

    @property
    def strength_now(self) -> Any:
        """What the measure of distance to the grid is multiplied by at this moment."""
        raise NotImplementedError

    def at_step(self, step: int, total_steps: int) -> None:
        """Moves what is scheduled to a training step."""

    def settle(self) -> None:
        """Holds at full strength what has been learned, for the end of training."""
