r"""`distill`: a quantized model learns from the float model's outputs on images without labels.

    L = T^2 * KL(softmax(t / T) || softmax(s / T))

with the teacher's logits `t`, the student's `s` and the temperature `T` (Hinton, Vinyals and Dean
2015, arXiv 1503.02531, section 2: `T^2` keeps the gradient's size).
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
from keras import ops

from tfqreg.batches import batches_of, count_batches
from tfqreg.callbacks import callbacks_for
from tfqreg.norms import fix_mode, free_mode, norms_of


@keras.saving.register_keras_serializable(package="tfqreg")
class DistillationLoss(keras.losses.Loss):
    """`T^2 * KL(softmax(t / T) || softmax(s / T))` of the teacher's logits `t` (the targets) and
    the student's `s`.

    Args:
        temperature: `T`; 1.0 by default. A higher one lets the unlikely classes count more.

    Raises:
        ValueError: for a temperature that is not positive.

    Example:
        >>> import numpy as np
        >>> float(DistillationLoss()(np.float32([[1.0, 0.0]]), np.float32([[3.0, 2.0]])))
        0.0
    """

    def __init__(self, temperature: float = 1.0, name: str = "distillation", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not temperature > 0:
            raise ValueError(
                f"DistillationLoss: `temperature` must be positive. Received: "
                f"temperature={temperature!r}"
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
    """Trains a quantized model on unlabelled images to give the teacher's outputs; returns the
    history of `fit`.

    The teacher's outputs are computed batch by batch, so that every batch may be augmented anew.
    The model stays compiled with the optimizer and the loss.

    Args:
        model: what `quantize` returned for the teacher; after `calibrate`, training begins from
            there.
        teacher: the float model, of the same inputs and output shape.
        photos: an array of inputs, shuffled every epoch; or an iterable of batches such as a
            tf.data.Dataset, whose labels are ignored. A generator is used once, an iterable anew
            every epoch.
        epochs: 1 by default.
        steps_per_epoch: batches an epoch; all of `photos` by default, to be given where their
            number is unknown.
        optimizer: as of `compile`; Adam by default.
        loss: any loss of the teacher's outputs and the model's; `DistillationLoss()` by default,
            which wants logits. "mse" suits outputs that are no logits.
        freeze_norms: keeps the statistics of BatchNormalization, those of the data the teacher was
            trained on, while its factors train; True by default.
        batch_size: images a batch where `photos` is an array; 32 by default.
        callbacks: more callbacks; those of `callbacks_for(model)` are always there.
        verbose: of `fit`.

    Raises:
        ValueError: for a model without quantizers, a teacher of other outputs, or an unknown number
            of batches.

    Example:
        >>> import numpy as np
        >>> import tfqreg as tq
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model = tq.quantize(teacher, [tq.Rule(".*", weights=tq.Uniform(bits=3))])
        >>> history = tq.distill(model, teacher, np.random.rand(8, 4).astype("float32"), verbose=0)
        >>> len(history.history["loss"])
        1
    """
    added = callbacks_for(model)
    shapes = [
        keras.tree.map_structure(lambda y: tuple(y.shape), net.outputs) for net in (model, teacher)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{model.name}: the teacher's outputs must have the model's shape, {shapes[0]}. "
            f"Received: {shapes[1]}"
        )
    steps = steps_per_epoch or count_batches(photos, batch_size)
    if steps is None:
        raise ValueError(
            f"{model.name}: how many batches there are is unknown; give `steps_per_epoch`. "
            f"Received: photos={type(photos).__name__}"
        )
    with _fixed_statistics(model) if freeze_norms else nullcontext():
        model.compile(optimizer, DistillationLoss() if loss is None else loss)
        return model.fit(
            _lessons(teacher, photos, batch_size),
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[*added, *callbacks],
            shuffle=False,  # the lessons are shuffled already
            verbose=verbose,  # type: ignore[arg-type]
        )


@contextmanager
def _fixed_statistics(model: keras.Model) -> Iterator[None]:
    """Lets every BatchNormalization use its moving statistics while its factors train."""
    norms = norms_of(model)
    try:
        for norm in norms:
            fix_mode(norm, training=False)
        yield
    finally:
        for norm in norms:
            free_mode(norm)
        model.train_function = None  # it was traced with the statistics fixed


def _lessons(teacher: keras.Model, photos: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    """Yields batches of images with the teacher's outputs, without end."""
    for epoch in itertools.count():
        empty = True
        for batch in batches_of(photos, batch_size, shuffle_seed=epoch):
            empty = False
            images = keras.utils.unpack_x_y_sample_weight(batch)[0]
            # `fit` takes several inputs or outputs as a tuple, never as a list.
            yield _tuples(images), _tuples(teacher.predict_on_batch(images))
        if empty:  # a generator is used up
            return


def _tuples(arrays: Any) -> Any:
    return tuple(arrays) if isinstance(arrays, list) else arrays
