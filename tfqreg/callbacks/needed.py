"""`callbacks_for`: the callbacks that a quantized model cannot be trained without."""

import keras

from tfqreg.callbacks.incremental import Incremental
from tfqreg.callbacks.stages import Stages
from tfqreg.errors import ModelError
from tfqreg.layers.queries import quantized_layers


def callbacks_for(model: keras.Model) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that training a quantized model needs.

    That is `Stages`, and `Incremental` if a quantizer takes its weights in parts.

    Args:
        model: a model with wrapped layers.

    Raises:
        ModelError: for a model with nothing to quantize.

    Example:
        >>> import tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> model = tq.quantize(model, [tq.Rule("head", tq.PowerOfTwo())])
        >>> [type(callback).__name__ for callback in callbacks_for(model)]
        ['Stages', 'Incremental']
    """
    layers = quantized_layers(model)
    if not layers:
        raise ModelError(
            model.name, "no wrapped layers", "Call tfqreg.quantize(model, rules) first"
        )
    in_parts = any(layer.quantizer.incremental for layer in layers)
    return [Stages(), *([Incremental()] if in_parts else [])]
