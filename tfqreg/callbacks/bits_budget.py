"""`BitsBudget`: learns just so many bits that the container has a given number of bytes."""

import warnings
from collections.abc import Callable
from typing import Any

import keras

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.layers.queries import quantized_layers
from tfqreg.regularizers import SinAReQ

# Settling weights move the entropy by some percent, and what is asked for is a limit.
AIM, TOLERANCE = 0.97, 0.02


class BitsBudget(Progress):
    """Moves `target_bits` of `SinAReQ` until the model's container takes `target_bytes`; goes
    before `Stages`.

    A bit more halves the spacing of the levels and adds one bit to the entropy of each weight's
    code, so that each look at the size tells how many bits are missing: `8 (0.97 target_bytes -
    bytes) / weights`; weights that settle may take the rest. A warning tells of a size more than 2
    % above the target at the end.

    Args:
        target_bytes: what the container may take.
        size: gives the bytes of a model, `tfqreg.export.container_size` or what suits.
        looks: how often the size is asked for while bits are learned; 6 by default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ValueError: for a target that is not positive, or a model without `SinAReQ`.

    Example:
        >>> BitsBudget(4000, size=lambda model: 0).target_bytes
        4000
    """

    def __init__(
        self,
        target_bytes: int,
        size: Callable[[keras.Model], int],
        looks: int = 6,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(total_steps)
        if not target_bytes > 0:
            raise ValueError(
                f"BitsBudget: `target_bytes` must be positive. Received: "
                f"target_bytes={target_bytes!r}"
            )
        self.target_bytes, self.size, self.looks = target_bytes, size, looks

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds what learns bits."""
        super().on_train_begin(logs)
        kernels = [
            kernel for layer in quantized_layers(self.model) for kernel in layer.kernels.values()
        ]
        learned = [
            (kernel, kernel.regularizer)
            for kernel in kernels
            if isinstance(kernel.regularizer, SinAReQ)
        ]
        if not learned:
            raise ValueError(
                f"BitsBudget: {self.model.name} learns no bits. Give its rules "
                f"weights=LearnedBits() and "
                f"regularizer=SinAReQ(). Received: target_bytes={self.target_bytes}"
            )
        self.weights = sum(kernel.count for kernel, _ in learned)
        self.penalties = list({id(penalty): penalty for _, penalty in learned}.values())
        for (
            penalty
        ) in self.penalties:  # by which it knows that it is steered, before its cost is traced
            penalty.target_bits = penalty.average_bits()
        rise, fall = (
            max(getattr(p, name) for p in self.penalties) * self.total for name in ("rise", "fall")
        )
        self.looks_at = {
            round(rise + (fall - rise) * look / self.looks) for look in range(1, self.looks)
        } | {1}

    def on_step(self, step: int, last: int) -> None:
        """Looks at the size."""
        if not any(last < at <= step for at in self.looks_at):
            return
        sync(self.model)
        missing = 8.0 * (AIM * self.target_bytes - self.size(self.model)) / self.weights
        for penalty in self.penalties:
            penalty.target_bits = max(penalty.average_bits() + missing, 1.0)

    def on_train_end(self, logs: Any = None) -> None:
        """Warns of a size above the target."""
        sync(self.model)
        size = self.size(self.model)
        if size > (1.0 + TOLERANCE) * self.target_bytes:
            warnings.warn(
                f"{self.model.name}: the container takes more than `target_bytes`. Give the bits "
                f"more steps (`rise` to "
                f"`fall` of SinAReQ) or `pace`. Received: {size} bytes, "
                f"target_bytes={self.target_bytes}",
                stacklevel=2,
            )
