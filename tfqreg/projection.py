"""Puts the weights of a model on integer grids where its quantizers do not by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from tfqreg.layers.queries import kernel_pairs, quantized_layers


def project(model: keras.Model) -> dict[str, float]:
    """Moves levels that lie on no integer grid to the nearest one; returns the largest change of a
    weight by kernel.

    Kernels that are on a grid already stay as they are and are not listed. Needed before export
    where `MultiBit` weights were trained without `ALQRounds`, which does this at its end.

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
        for kernel, variable in layer.kernel_pairs():
            if kernel.quantizer.on_grid(kernel.state):
                continue
            before = ops.convert_to_numpy(kernel.quantized(variable))
            for name, value in kernel.quantizer.project(kernel.state).items():
                kernel.state[name].assign(value)
            variable.assign(kernel.quantized(variable))
            changes[f"{layer.name}/{kernel.name}"] = float(
                np.abs(ops.convert_to_numpy(variable) - before).max()
            )
    return changes


@contextmanager
def projected(model: keras.Model) -> Iterator[None]:
    """Has the model on integer grids for as long as the context lasts, and puts everything back
    after it.
    """
    pairs = kernel_pairs(model)
    variables = [v for kernel, variable in pairs for v in (variable, *kernel.state.values())]
    values = [ops.convert_to_numpy(v).copy() for v in variables]
    try:
        project(model)
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
