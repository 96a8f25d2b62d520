r"""Moving statistics of BatchNormalization, measured anew with the weights as they are.

    mean = (1/N) sum_b n_b mean_b,    variance = (1/N) sum_b n_b variance_b

over batches b of n_b samples, N in all: averages that are exact where training leaves exponentially
weighted ones, of weights that have moved since. Quantized weights move the statistics most, above
all in depthwise layers (Nagel et al. 2022, arXiv 2203.11086, section 3.2).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras

from tfqreg.batches import batches_of, count_batches

Norm: TypeAlias = keras.layers.BatchNormalization


def reestimate_norms(
    model: keras.Model, data: Any, batch_size: int = 128, verbose: int = 1
) -> keras.Model:
    """Sets the moving statistics of every BatchNormalization to their averages over data; returns
    the model.

    Best called after training, with the weights on their grid. Nothing else changes.

    Args:
        model: any model; a BatchNormalization that is not trainable stays as it is.
        data: an array of inputs or a dict of them, or an iterable of batches, of which labels are
            ignored.
        batch_size: samples a batch where `data` is an array, best that of the training; 128 by
            default.
        verbose: 0 for no progress bar; 1 by default.

    Raises:
        ValueError: for a model without BatchNormalization, or no data.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
        >>> x = np.float32([[1.0], [3.0]])
        >>> np.asarray(reestimate_norms(model, x, verbose=0).layers[0].moving_mean)
        array([2.], dtype=float32)

    Reference: Nagel, Fournarakis, Bondarenko, Blankevoort 2022, arXiv 2203.11086, section 3.2.
    """
    norms = norms_of(model)
    if not norms:
        raise ValueError(
            f"{model.name}: no BatchNormalization to measure. Leave out reestimate_norms."
        )
    progress = keras.utils.Progbar(
        count_batches(data, batch_size), verbose=verbose, unit_name="batch"
    )
    seen, count = 0, 0
    with _measuring(norms):
        for count, batch in enumerate(batches_of(data, batch_size), 1):
            inputs = keras.utils.unpack_x_y_sample_weight(batch)[0]
            size = len(keras.tree.flatten(inputs)[0])
            seen += size
            for norm in norms:
                norm.momentum = (
                    1.0 - size / seen
                )  # its own update is then the average of all batches so far
            model(inputs, training=False)
            progress.update(count)
    if not count:
        raise ValueError(
            f"{model.name}: no data to measure BatchNormalization on. Received: {data!r}"
        )
    progress.update(count, finalize=True)
    return model


def norms_of(model: keras.Model) -> list[Norm]:
    """Returns every BatchNormalization of a model once, nested models included."""
    return list(
        dict.fromkeys(layer for layer in model._flatten_layers() if isinstance(layer, Norm))
    )


def fix_mode(norm: Norm, training: bool) -> None:
    """Has a BatchNormalization compute as in training, or as in inference, whatever its model does."""

    def call(
        inputs: Any, training: bool | None = None, mask: Any = None, fixed: bool = training
    ) -> Any:
        return type(norm).call(norm, inputs, training=fixed, mask=mask)

    norm.call = call  # type: ignore[method-assign]


def free_mode(norm: Norm) -> None:
    """Undoes `fix_mode`."""
    del norm.call  # the class's own is found again


@contextmanager
def _measuring(norms: list[Norm]) -> Iterator[None]:
    """Has these layers, and no others, compute as in training."""
    momenta = [norm.momentum for norm in norms]

    try:
        for norm in norms:
            fix_mode(norm, training=True)
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            free_mode(norm)
            norm.momentum = momentum
