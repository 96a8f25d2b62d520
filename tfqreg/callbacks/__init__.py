"""Callbacks, one file each."""

import keras

from tfqreg.callbacks.alq import ALQRounds
from tfqreg.callbacks.bits_budget import BitsBudget
from tfqreg.callbacks.incremental import Incremental
from tfqreg.callbacks.monitor import Monitor, kernel_figures
from tfqreg.callbacks.size_budget import SizeBudget
from tfqreg.callbacks.stages import Stages
from tfqreg.callbacks.stop import StopWhenSettled
from tfqreg.layers.queries import quantized_layers


def callbacks_for(model: keras.Model) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that training a quantized model needs.

    Args:
        model: a model with wrapped layers.

    Raises:
        ValueError: for a model with nothing to quantize.
    """
    if not quantized_layers(model):
        raise ValueError(
            f"{model.name}: no wrapped layers. Call tfqreg.quantize(model, rules) first."
        )
    kernels = [kernel for layer in quantized_layers(model) for kernel in layer.kernels.values()]
    return [
        Stages(),
        *([Incremental()] if any(kernel.quantizer.incremental for kernel in kernels) else []),
    ]


__all__ = [
    "ALQRounds",
    "BitsBudget",
    "Incremental",
    "Monitor",
    "SizeBudget",
    "Stages",
    "StopWhenSettled",
    "callbacks_for",
    "kernel_figures",
]
