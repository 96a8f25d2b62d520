"""What of a model is quantized: its wrapped layers, their kernels, its activation quantizers."""

from typing import Any

import keras

from tfqreg.layers.activation_quantizer import ActivationQuantizer
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.quantized import Quantized


def quantized_layers(model: keras.Model) -> list[Quantized]:
    """Returns the weight wrappers of a model, nested and subclassed models included."""
    return _layers_of(model, Quantized)


def kernel_pairs(model: keras.Model) -> list[tuple[QuantizedKernel, keras.Variable]]:
    """Returns what is kept for each wrapped kernel of a model, with the float kernel itself."""
    return [pair for layer in quantized_layers(model) for pair in layer.kernel_pairs()]


def activation_layers(model: keras.Model) -> list[ActivationQuantizer]:
    """Returns the activation quantizers of a model, nested and subclassed models included."""
    return _layers_of(model, ActivationQuantizer)


def _layers_of(model: keras.Model, cls: type) -> list[Any]:
    return list(dict.fromkeys(layer for layer in model._flatten_layers() if isinstance(layer, cls)))
