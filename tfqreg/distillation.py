r"""`distill`: a quantized model learns from the float model's outputs on images without labels."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
from keras import ops

from tfqreg.batches import count_batches, samples_for
from tfqreg.callbacks.needed import callbacks_for
from tfqreg.errors import ModelError
from tfqreg.lessons import lessons_without_end
from tfqreg.norms import fixed_mode, norms_of


@keras.saving.register_keras_serializable(package="tfqreg")
class DistillationLoss(keras.losses.Loss):
    """How far a student's class probabilities are from its teacher's.

        L = T^2 * KL(softmax(t / T) || softmax(s / T))

    with the teacher's logits `t` (the targets), the student's `s`, both (samples, classes), and the
    temperature `T`; `T^2` keeps the gradient's size.

    Args:
        temperature: `T`; 1.0 by default. A higher one lets the unlikely classes count more.
        name: of the loss in the logs; "distillation" by default.

    Raises:
        ModelError: for a temperature that is not positive.

    Example:
        >>> import numpy as np
        >>> float(DistillationLoss()(np.float32([[1.0, 0.0]]), np.float32([[3.0, 2.0]])))
        0.0

    Reference: Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """

    def __init__(self, temperature: float = 1.0, name: str = "distillation", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not temperature > 0:
            raise ModelError(
                "DistillationLoss",
                "`temperature` must be positive",
                received=f"temperature={temperature!r}",
            )
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of every sample; logits run along the last axis."""
        target = ops.log_softmax(y_true / self.temperature)
        found = ops.log_softmax(y_pred / self.temperature)
        return self.temperature**2 * ops.sum(ops.exp(target) * (target - found), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "temperature": self.temperature}


def distill(
    model: keras.Model,
    teacher: keras.Model,
    photos: Any,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    optimizer: Any = "adam",
    loss: Any = None,
    freeze_norms: bool = True,
    batch_size: int = 32,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Trains a quantized model to give its teacher's outputs; returns the history of `fit`.

    Images need no labels: by default `DistillationLoss` compares the outputs of the two models. The
    teacher's outputs are computed batch by batch, so that every batch may be augmented anew.
    The model stays compiled with the optimizer and the loss.

    Args:
        model: what `quantize` returned for the teacher; after `calibrate`, training begins from
            there.
        teacher: the float model, of the same inputs and output shape.
        photos: inputs in any of the forms of `calibrate`, labels ignored. An array is shuffled
            every epoch; a generator is used once, a function or a dataset anew every epoch.
        epochs: 1 by default.
        steps_per_epoch: batches per epoch; all of `photos` by default, to be given if their number
            is unknown.
        optimizer: as of `compile`; Adam by default.
        loss: any loss of the teacher's outputs and the model's; `DistillationLoss()` by default,
            which wants logits. "mse" suits outputs that are no logits.
        freeze_norms: keeps the statistics of BatchNormalization, those of the data the teacher was
            trained on, while its factors train; True by default.
        batch_size: images per batch if `photos` is an array; 32 by default.
        callbacks: more callbacks; those of `callbacks_for(model)` are always there.
        verbose: as of `fit`; "auto" by default.

    Raises:
        ModelError: for a model without quantizers, a teacher of other outputs, or an unknown number
            of batches.

    Example:
        >>> import numpy as np
        >>> import tfqreg as tq
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model = tq.quantize(teacher, [tq.Rule(".*", weights=tq.Uniform(bits=3))])
        >>> history = tq.distill(model, teacher, np.random.rand(8, 4).astype("float32"), verbose=0)
        >>> len(history.history["loss"])
        1

    Reference: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """
    added = callbacks_for(model)
    shapes = [
        keras.tree.map_structure(lambda y: tuple(y.shape), net.outputs) for net in (model, teacher)
    ]
    if shapes[0] != shapes[1]:
        raise ModelError(
            model.name,
            f"the teacher's outputs must have the model's shape, {shapes[0]}",
            received=f"{shapes[1]}",
        )
    steps = steps_per_epoch or count_batches(samples_for(teacher, photos), batch_size)
    if steps is None:
        raise ModelError(
            model.name,
            "how many batches there are is unknown; give `steps_per_epoch`",
            received=f"photos={type(photos).__name__}",
        )
    with _fixed_statistics(model) if freeze_norms else nullcontext():
        model.compile(optimizer, DistillationLoss() if loss is None else loss)
        return model.fit(
            lessons_without_end(teacher, photos, batch_size),
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[*added, *callbacks],
            shuffle=False,  # the lessons are shuffled already
            verbose=verbose,  # type: ignore[arg-type]
        )


@contextmanager
def _fixed_statistics(model: keras.Model) -> Iterator[None]:
    """Lets every BatchNormalization use its moving statistics while its factors train."""
    try:
        with fixed_mode(norms_of(model), training=False):
            yield
    finally:
        model.train_function = None  # it was traced with the statistics fixed
