"""`calibrate`: scales from data, without training."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.layers import QuantizedActivation
from tfqreg.layers.activation import SAMPLE_SIZE
from tfqreg.wrap import activation_layers, quantized_layers


def calibrate(model: keras.Model, data: Any, batch_size: int = 64, verbose: int = 1) -> keras.Model:
    """Sets the scales of weights and activations from data, without training; returns the model.

    With `quantize` at 8 bits this is plain post-training quantization.

    Args:
        model: a model with quantizers.
        data: an array of inputs or a dict of them, or an iterable of batches (a tf.data.Dataset, say), of which labels
            are ignored; a batch of several inputs without labels is `((first, second),)`.
        batch_size: samples a batch where `data` is an array; 64 by default.
        verbose: 0 for no progress bar; 1 by default.

    Raises:
        ValueError: for a model without activation quantizers, no data, or data with NaN.
    """
    layers = activation_layers(model)
    if not layers:
        raise ValueError(f"{model.name}: no activation quantizers to calibrate. Call tfqreg.quantize(model) first.")
    seen: dict[QuantizedActivation, list[np.ndarray]] = {layer: [] for layer in layers}
    random = np.random.default_rng(0)

    def observe(layer: QuantizedActivation, x: Any) -> Any:
        values = ops.convert_to_numpy(x).ravel()
        seen[layer].append(values if values.size <= SAMPLE_SIZE else random.choice(values, SAMPLE_SIZE))
        return x

    batches, count = _batches(data, batch_size), 0
    progress = keras.utils.Progbar(None, verbose=verbose, unit_name="batch")
    try:
        for layer in layers:
            layer._observer = observe
        for count, batch in enumerate(batches, 1):
            model(keras.utils.unpack_x_y_sample_weight(batch)[0], training=False)
            progress.update(count)
        progress.update(count, finalize=True)
    finally:
        for layer in layers:
            layer._observer = None
    for layer, values in seen.items():
        sample = np.concatenate(values) if values else np.zeros(0, np.float32)
        if not sample.size or not np.isfinite(sample).all():
            raise ValueError(
                f"{layer.name}: calibration saw {'NaN or infinity' if sample.size else 'no data'}. Give sound inputs "
                f"that reach this layer. Received: {sample.size} values"
            )
        scale, low = layer.fit(ops.convert_to_tensor(sample[None]))
        layer.assign_grid(scale, low)
    for wrapper in quantized_layers(model):
        wrapper.fit_quantizers()
    return model


def _batches(data: Any, batch_size: int) -> Iterable[Any]:
    if hasattr(data, "shape") or isinstance(data, dict):
        size = len(keras.tree.flatten(data)[0])
        parts = [slice(i, i + batch_size) for i in range(0, size, batch_size)]
        return (keras.tree.map_structure(lambda x, part=part: x[part], data) for part in parts)
    return data
