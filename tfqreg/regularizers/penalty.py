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
        """What the penalty's measure is multiplied by at this moment; 0 where there is none."""
        return 0.0

    def at_step(self, step: int, total_steps: int) -> None:
        """Moves what is scheduled to a training step."""

    def settle(self) -> None:
        """Holds at full strength what has been learned, for the end of training."""


class Pruning(Penalty):
    """Base of what prunes: it acts while the share of pruned weights grows, then its mask is final.

    `sparsity` is the share to come to; `revives` says whether a pruned weight goes on learning until then.
    """

    sparsity: float
    revives = False

    def update(self, pairs: list[tuple[Any, Any]], share: float | None) -> None:
        """Moves towards a share of pruned weights; called every so many steps.

        Args:
            pairs: the kernels that share this object, each `QuantizedKernel` with its float variable.
            share: the share of pruned weights to stand at now; None leaves it where it is.
        """
        raise NotImplementedError

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[Any]:
        """Returns, for each kernel, the boolean array of the weights that stay."""
        raise NotImplementedError
