"""A callback that knows how far the whole training has come, also one that was resumed."""

from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError


def sync(model: keras.Model) -> None:
    """Brings a model's variables up to date.

    Under JAX the state of training is kept outside of them between epochs.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # type: ignore[attr-defined]


class Progress(keras.callbacks.Callback):
    """Base of the callbacks that act by the step of training; it calls `on_step` before each batch.

    Where training stands is read from the optimizer, so a saved run resumes exactly.

    Args:
        total_steps: steps of the whole training; taken from `fit` by default.
    """

    total: int

    def __init__(self, total_steps: int | None = None) -> None:
        super().__init__()
        self.total_steps = total_steps

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the length of the training; raises ModelError if it is unknown."""
        steps = self.params.get("steps")
        total = self.total_steps or (steps and steps * self.params["epochs"])
        if not total:
            name = type(self).__name__
            raise ModelError(
                name,
                "the length of the training is unknown, the data does not give its number of "
                "batches",
                f"Pass {name}(total_steps=...), or steps_per_epoch to fit",
            )
        self.total = total

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Reads the step the optimizer is at."""
        sync(self.model)
        optimizer = self.model.optimizer
        batches_per_step = getattr(optimizer, "gradient_accumulation_steps", None) or 1
        self.first_step = int(ops.convert_to_numpy(optimizer.iterations)) * batches_per_step
        self.last_step = self.first_step - 1

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls `on_step`."""
        step, last = self.first_step + batch, self.last_step
        self.last_step = step  # further than one step with `steps_per_execution`
        self.on_step(step, last)

    def on_step(self, step: int, last: int) -> None:
        """Acts before step number `step`; `last` is the one before it that was seen."""
        raise NotImplementedError
