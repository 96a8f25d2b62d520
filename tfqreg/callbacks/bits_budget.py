"""`BitsBudget`: learns just as many bits as a container of a given size takes."""

import warnings
from collections.abc import Callable
from typing import Any

import keras

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.errors import ModelError
from tfqreg.layers.queries import kernel_pairs
from tfqreg.regularizers import SinAReQ

# Weights that settle move the entropy by a few percent, and the target is a limit: bits aim at this
# fraction of it,
AIM = 0.97
# and the container may be over it by this fraction before a warning says so.
TOLERANCE = 0.02


class BitsBudget(Progress):
    """Moves `target_bits` of `SinAReQ` until the model's container takes `target_bytes`.

    A bit more halves the spacing of the levels and adds one bit to the entropy of each weight's
    code, so that each look at the size shows how many bits per weight are missing,

        8 (0.97 target_bytes - bytes) / weights

    Weights that settle may take the rest. A warning reports a size more than 2 % above the target
    at the end. The callback goes before `Stages`.

    Args:
        target_bytes: what the container may take.
        size: returns the bytes of a model, such as `tfqreg.export.container_size`.
        looks: how often the size is asked for while bits are learned; 6 by default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ModelError: for a target that is not positive, or a model without `SinAReQ`.

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
            raise ModelError(
                "BitsBudget",
                "`target_bytes` must be positive",
                received=f"target_bytes={target_bytes!r}",
            )
        self.target_bytes, self.size, self.looks = target_bytes, size, looks

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds what learns bits."""
        super().on_train_begin(logs)
        learned = [
            (quantized_kernel, penalty)
            for quantized_kernel, _ in kernel_pairs(self.model)
            if isinstance(penalty := quantized_kernel.regularizer, SinAReQ)
        ]
        if not learned:
            raise ModelError(
                "BitsBudget",
                f"{self.model.name} learns no bits",
                "Give its rules weights=LearnedBits() and regularizer=SinAReQ()",
                f"target_bytes={self.target_bytes}",
            )
        self.weight_count = sum(quantized_kernel.count for quantized_kernel, _ in learned)
        self.penalties = list({id(penalty): penalty for _, penalty in learned}.values())
        for penalty in self.penalties:
            # By this it knows that it is steered, before its cost is traced.
            penalty.target_bits = penalty.average_bits()
        rise = max(penalty.rise for penalty in self.penalties) * self.total
        fall = max(penalty.fall for penalty in self.penalties) * self.total
        looks = (rise + (fall - rise) * look / self.looks for look in range(1, self.looks))
        self.looks_at = {1, *map(round, looks)}

    def on_step(self, step: int, last: int) -> None:
        """Looks at the size."""
        if not any(last < at <= step for at in self.looks_at):
            return
        sync(self.model)
        missing = 8.0 * (AIM * self.target_bytes - self.size(self.model)) / self.weight_count
        for penalty in self.penalties:
            penalty.target_bits = max(penalty.average_bits() + missing, 1.0)

    def on_train_end(self, logs: Any = None) -> None:
        """Warns of a size above the target."""
        sync(self.model)
        size = self.size(self.model)
        if size > (1.0 + TOLERANCE) * self.target_bytes:
            warnings.warn(
                f"{self.model.name}: the container takes more than `target_bytes`. Give the bits "
                f"more steps (`rise` to `fall` of SinAReQ) or `pace`. "
                f"Received: {size} bytes, target_bytes={self.target_bytes}",
                stacklevel=2,
            )
