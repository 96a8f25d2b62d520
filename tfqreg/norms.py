r"""Moving statistics of BatchNormalization, measured anew with the weights as they are.

    mean = (1/N) sum_b n_b mean_b,    variance = (1/N) sum_b n_b variance_b

over batches b of n_b samples, N in all: averages that are exact, while training leaves
exponentially weighted ones, of weights that have moved since. Quantized weights move the statistics
most, above all in depthwise layers (Nagel et al. 2022, arXiv 2203.11086, section 3.2).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras

from tfqreg.batches import batches_of, count_batches, inputs_of, samples_for
from tfqreg.errors import ModelError

Norm: TypeAlias = keras.layers.BatchNormalization


def reestimate_norms(
    model: keras.Model, data: Any, batch_size: int = 128, verbose: int = 1
) -> keras.Model:
    """Sets the moving statistics of every BatchNormalization anew; returns the model.

        mean = (1/N) sum_b n_b mean_b,    variance = (1/N) sum_b n_b variance_b

    over batches b of n_b samples, N in all. Best called after training, with the weights on their
    grid. Nothing else changes.

    Args:
        model: any model; a BatchNormalization that is not trainable stays as it is.
        data: inputs in any of the forms of `calibrate`; labels are ignored.
        batch_size: samples per batch if `data` is an array, best that of the training; 128 by
            default.
        verbose: 0 for no progress bar; 1 by default.

    Raises:
        ModelError: for a model without BatchNormalization, or no data.

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
        raise ModelError(
            model.name, "no BatchNormalization to measure", "Leave out reestimate_norms"
        )
    data = samples_for(model, data)
    progress = keras.utils.Progbar(
        count_batches(data, batch_size), verbose=verbose, unit_name="batch"
    )
    seen, count = 0, 0
    with _momenta_kept(norms), fixed_mode(norms, training=True):
        for count, batch in enumerate(batches_of(data, batch_size), 1):
            inputs = inputs_of(model, batch)
            size = len(keras.tree.flatten(inputs)[0])
            seen += size
            for norm in norms:
                # Its own update is then the average of all batches so far.
                norm.momentum = 1.0 - size / seen
            model(inputs, training=False)
            progress.update(count)
    if not count:
        raise ModelError(
            model.name, "no data to measure BatchNormalization on", received=repr(data)
        )
    progress.update(count, finalize=True)
    return model


def norms_of(model: keras.Model) -> list[Norm]:
    """Returns every BatchNormalization of a model once, nested models included."""
    return list(
        dict.fromkeys(layer for layer in model._flatten_layers() if isinstance(layer, Norm))
    )


@contextmanager
def fixed_mode(norms: list[Norm], training: bool) -> Iterator[None]:
    """Has every BatchNormalization compute as in training, or as in inference, for a while.

    Keras asks a layer for its mode when it traces a step, so a step that was traced within the
    context keeps the mode after it.

    Args:
        norms: the layers, whatever mode their model computes in.
        training: True for the statistics of the batch, False for the moving ones.
    """
    try:
        for norm in norms:
            norm.call = _call_in_mode(norm, training)  # type: ignore[method-assign]
        yield
    finally:
        for norm in norms:
            del norm.call  # the class's own is found again


def _call_in_mode(norm: Norm, mode: bool) -> Callable[..., Any]:
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return type(norm).call(norm, inputs, training=mode, mask=mask)

    return call


@contextmanager
def _momenta_kept(norms: list[Norm]) -> Iterator[None]:
    """Gives the layers the momenta back that they had."""
    momenta = [norm.momentum for norm in norms]
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
