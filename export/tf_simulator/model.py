"""The integer simulator as a Keras model, for compile, evaluate and predict."""

import keras

from tfqreg.errors import ModelError

from ..ir import Graph
from ..lowering.lower import lower

# What LiteRT's XNNPACK computes, by processor, as a mode of `simulate`.
_MODES = {"x86-64": "f32", "arm64": "arm64"}


def integer_model(
    model: keras.Model | Graph, dequantized: bool = True, runtime: str = "x86-64"
) -> keras.Model:
    """Returns a Keras model that computes what LiteRT computes on the exported `.tflite`.

    It equals `simulate(graph, ..., mode)` and takes whole batches, at about the speed of the float
    model: `integer_model(q, runtime="arm64").evaluate(x, y)` is the accuracy on the phone. It has
    nothing to train.

    Args:
        model: a quantized model, trained or calibrated, or the integer graph of one. Inputs, which
            are rounded as the operator QUANTIZE does, and outputs are those of the model, with the
            names and the nesting it has.
        dequantized: float32 outputs in their own units; True by default. False returns int8 codes.
        runtime: the processor that LiteRT runs on, "x86-64", the default, or "arm64", as of phones.
            SOFTMAX alone, and products on grids that share their scale, differ between the two.

    Raises:
        ModelError: as `tfqreg.export.lower`, for another runtime, and for a Keras backend other
            than TensorFlow.

    Example:
        >>> import numpy as np
        >>> import tfqreg as tq
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
        >>> x = np.random.default_rng(0).random((16, 8, 8, 3), np.float32)
        >>> q = tq.calibrate(tq.quantize(keras.Sequential(layers)), x, verbose=0)
        >>> integer_model(q).predict(x, verbose=0).shape
        (16, 144)
    """
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            "",
            "integer_model runs on TensorFlow",
            "Set KERAS_BACKEND=tensorflow before Keras is imported",
            f"backend={keras.backend.backend()!r}",
        )
    if runtime not in _MODES:
        raise ModelError(
            "", f"`runtime` is one of {', '.join(_MODES)}", received=f"runtime={runtime!r}"
        )
    from .layer import IntegerGraph

    graph = model if isinstance(model, Graph) else lower(model)
    inputs = [keras.Input(graph.tensors[name].shape[1:], name=name) for name in graph.inputs]
    outputs = IntegerGraph(graph, dequantized, _MODES[runtime])(inputs)
    if isinstance(model, Graph):
        return keras.Model(inputs, outputs, name="integer")
    # An output goes by the name of the layer it comes from: losses and metrics may be given by it.
    names = [tensor._keras_history.operation.name for tensor in keras.tree.flatten(model.outputs)]
    outputs = [keras.layers.Identity(name=name)(x) for name, x in zip(names, outputs, strict=True)]
    packed = (
        keras.tree.pack_sequence_as(*pair)
        for pair in ((model.input, inputs), (model.output, outputs))
    )
    return keras.Model(*packed, name=f"{model.name}_integer")
