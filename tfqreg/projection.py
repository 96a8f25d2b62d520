"""Puts the weights of a model on integer grids where its quantizers do not by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from tfqreg.layers.queries import kernel_pairs, quantized_layers


def project(model: keras.Model) -> dict[str, float]:
    """Moves levels that lie on no integer grid to the nearest one; returns what that changed.

    The result is the largest change of a weight by "layer/kernel". Kernels that are on a grid
    already stay as they are and are not listed. Needed before export if `MultiBit` weights were
    trained without `ALQRounds`, which does this at its end.

    Args:
        model: a model with wrapped layers.

    Example:
        >>> import keras, tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> model = tq.quantize(model, [tq.Rule("head", tq.MultiBit(bases=1))])
        >>> project(model), project(model)
        ({'head/kernel': 0.0}, {})
    """
    changes = {}
    for layer in quantized_layers(model):
        for quantized_kernel, weights in layer.kernel_pairs():
            if quantized_kernel.quantizer.on_grid(quantized_kernel.state):
                continue
            before = ops.convert_to_numpy(quantized_kernel.quantized(weights))
            projected_state = quantized_kernel.quantizer.project(quantized_kernel.state)
            for name, value in projected_state.items():
                quantized_kernel.state[name].assign(value)
            weights.assign(quantized_kernel.quantized(weights))
            change = np.abs(ops.convert_to_numpy(weights) - before).max()
            changes[f"{layer.name}/{quantized_kernel.name}"] = float(change)
    return changes


@contextmanager
def projected(model: keras.Model) -> Iterator[None]:
    """Has the model on integer grids for as long as the context lasts."""
    variables = [
        variable
        for quantized_kernel, weights in kernel_pairs(model)
        for variable in (weights, *quantized_kernel.state.values())
    ]
    values = [ops.convert_to_numpy(v).copy() for v in variables]
    try:
        project(model)
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
