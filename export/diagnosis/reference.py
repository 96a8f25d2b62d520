"""What a float model computes at the places where a quantized one rounds."""

from typing import Any

import keras
import numpy as np

from tfqreg.bias import float_weights
from tfqreg.errors import ModelError
from tfqreg.graph.flat import flatten
from tfqreg.layers import ActivationQuantizer
from tfqreg.layers.activation_quantizer import rounding_replaced
from tfqreg.layers.queries import activation_layers, quantized_layers
from tfqreg.wrap import quantize

Place = tuple[str, int]  # an activation quantizer's path, and which of its calls


def numbered(paths: list[str]) -> list[Place]:
    """Returns each path with how often it came before.

    Example:
        >>> numbered(["a", "b", "a"])
        [('a', 0), ('b', 0), ('a', 1)]
    """
    return [(path, paths[:index].count(path)) for index, path in enumerate(paths)]


def float_values(
    model: keras.Model, samples: Any, batch_size: int
) -> tuple[dict[Place, np.ndarray], list[np.ndarray]]:
    """Returns what a float model computes before each activation quantizer it would get, and last.

    Args:
        model: the float model, or a quantized one, which then computes with its float weights.
        samples: what the model takes: one array, or a list or dict of them.
        batch_size: samples of a call.

    Raises:
        ModelError: for a model that cannot be quantized.
    """
    if not activation_layers(model):
        model = quantize(model)
    layers = activation_layers(model)
    paths = [
        node.path
        for node in flatten(model).nodes
        if isinstance(node.operation, ActivationQuantizer)
    ]
    parts: list[list[np.ndarray]] = []
    outputs: list[list[np.ndarray]] = []
    count = len(keras.tree.flatten(samples)[0])
    for start in range(0, count, batch_size):
        seen: list[np.ndarray] = []

        def note(layer: ActivationQuantizer, x: Any, seen: list[np.ndarray] = seen) -> Any:
            del layer
            seen.append(keras.ops.convert_to_numpy(x))
            return x

        batch = keras.tree.map_structure(
            lambda x, start=start: np.asarray(x)[start : start + batch_size], samples
        )
        with rounding_replaced(layers, note), float_weights(quantized_layers(model)):
            result = model(batch, training=False)
        outputs.append([keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(result)])
        parts.append(seen)
    if len(parts[0]) != len(paths):
        raise ModelError(
            model.name,
            "its activation quantizers must each be called once where they stand",
            received=f"{len(parts[0])} calls of {len(paths)} places",
        )
    values = [np.concatenate(found) for found in zip(*parts, strict=True)]
    last = [np.concatenate(found) for found in zip(*outputs, strict=True)]
    return dict(zip(numbered(paths), values, strict=True)), last
