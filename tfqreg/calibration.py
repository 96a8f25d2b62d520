"""`calibrate`: scales and biases from data, without training."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.batches import (
    batches_of,
    broken_samples,
    count_batches,
    gathered,
    inputs_of,
    samples_for,
)
from tfqreg.bias import BiasCorrection
from tfqreg.errors import ModelError
from tfqreg.layers import ActivationQuantizer
from tfqreg.layers.activation import SAMPLE_SIZE
from tfqreg.layers.activation_quantizer import rounding_replaced
from tfqreg.layers.queries import activation_layers, quantized_layers
from tfqreg.seen_ranges import SeenRanges


def calibrate(
    model: keras.Model, data: Any, batch_size: int = 64, correct_bias: bool = True, verbose: int = 1
) -> keras.Model:
    """Sets the scales of weights and activations from data, without training; returns the model.

    With `quantize` at 8 bits this is plain post-training quantization. A few hundred inputs do,
    labels or none. Scales are those of least squared error; biases are moved by

        b_c <- b_c - (E[y_hat_c] - E[y_c])

    for each channel c, with the output `y` of a layer in the float model and `y_hat` in the model
    of quantized weights.

    Args:
        model: a model with quantizers, not trained quantized yet: scales and biases that were
            trained are lost.
        data: an array of inputs; a dict or list of them for several inputs; or what gives batches:
            a function as TFLite's converter takes it (`representative_dataset`), a generator, a
            tf.data.Dataset, a keras.utils.PyDataset, a loader of torch or grain. A batch is an
            array, a dict by input name, or a list or tuple of arrays in the model's order; labels
            after them are ignored. Batches of one sample are joined.
        batch_size: samples per batch if `data` is an array or gives one sample at a time; 64 by
            default.
        correct_bias: moves the biases, or the means of the BatchNormalization that follows; True by
            default. It takes twice the time.
        verbose: 0 for no progress bar; 1 by default.

    Raises:
        ModelError: for a model without activation quantizers, no data, data of another shape or
            number than the model's inputs, without end, or samples with NaN or infinity.

    Example:
        >>> import keras, numpy as np
        >>> import tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3)])
        >>> q = calibrate(tq.quantize(model), np.eye(4, dtype="float32"), verbose=0)
        >>> scale, lowest_code = q.get_layer("x_quantizer").encode()
        >>> round(1 / scale), lowest_code
        (255, 0)

    Reference: Nagel et al. 2019, arXiv 1906.04721, section 4.2, for the biases.
    """
    layers = activation_layers(model)
    if not layers:
        raise ModelError(
            model.name,
            "no activation quantizers to calibrate",
            "Call tfqreg.quantize(model) first",
        )
    for wrapper in quantized_layers(model):
        wrapper.fit_quantizers()
    data = samples_for(model, data)
    batches = (inputs_of(model, batch) for batch in batches_of(data, batch_size))
    batches = _sound(model, gathered(batches, batch_size))
    progress = keras.utils.Progbar(
        count_batches(data, batch_size), verbose=verbose, unit_name="batch"
    )
    correction = BiasCorrection(model) if correct_bias else None
    ranges = SeenRanges(model)
    for layer, sample in _observe(model, layers, batches, correction, progress, ranges).items():
        if not sample.size or not np.isfinite(sample).all():
            raise ModelError(
                layer.name,
                f"calibration saw {'NaN or infinity' if sample.size else 'no data'}",
                "Look at the weights before this layer, the inputs are sound"
                if sample.size
                else "Give inputs that reach this layer",
                f"{np.count_nonzero(~np.isfinite(sample))} of {sample.size} values",
            )
        layer.calibrate(ops.convert_to_tensor(sample[None]))
    if correction is not None:
        correction.apply()
    ranges.warn()
    return model


def _sound(model: keras.Model, batches: Iterable[Any]) -> Iterator[Any]:
    """Yields the inputs of each batch; raises ModelError for samples with NaN or infinity."""
    first = 0
    for inputs in batches:
        leaves = keras.tree.flatten(inputs)
        for leaf in leaves:
            if broken := broken_samples(leaf, first):
                raise ModelError(
                    model.name,
                    "samples of `data` hold NaN or infinity",
                    "Mend them or leave them out",
                    broken,
                )
        first += len(leaves[0])
        yield inputs


def _observe(
    model: keras.Model,
    layers: list[ActivationQuantizer],
    batches: Iterable[Any],
    correction: BiasCorrection | None,
    progress: keras.utils.Progbar,
    ranges: SeenRanges,
) -> dict[ActivationQuantizer, np.ndarray]:
    """Returns a sample of what each activation quantizer sees, weights rounded and inputs not."""
    seen: dict[ActivationQuantizer, list[np.ndarray]] = {layer: [] for layer in layers}
    random, count = np.random.default_rng(0), 0

    def observe(layer: ActivationQuantizer, x: Any) -> Any:
        ranges.note(layer, ops.convert_to_numpy(x))
        values = ops.convert_to_numpy(x).ravel()
        seen[layer].append(
            values if values.size <= SAMPLE_SIZE else random.choice(values, SAMPLE_SIZE)
        )
        return x

    for count, inputs in enumerate(batches, 1):
        ranges.start_batch()
        if correction is not None:
            with rounding_replaced(layers, lambda layer, x: x), correction.reference():
                model(inputs, training=False)
        correcting = nullcontext() if correction is None else correction.correcting()
        with rounding_replaced(layers, observe), correcting:
            model(inputs, training=False)
        progress.update(count)
    progress.target = count  # batches of one sample are joined
    progress.update(count, finalize=True)
    return {
        layer: np.concatenate(values) if values else np.zeros(0, np.float32)
        for layer, values in seen.items()
    }
