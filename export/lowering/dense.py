"""Dense and EinsumDense: FULLY_CONNECTED for vectors, a 1x1 convolution for what has more axes."""

from dataclasses import replace
from typing import Any

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.layers import Quantized

from .builder import Builder, Open
from .fold import weights_of
from .shapes import image_shape, static_shape


def dense(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    """Returns the operator of a Dense layer."""
    return _product(builder, node, wrapper, 1)


def einsum_dense(builder: Builder, node: Node, wrapper: Quantized) -> Open:
    """Returns the operator of an EinsumDense layer that contracts the last axes of its input."""
    layer: Any = wrapper.layer
    operands, output = layer.equation.replace("...", "0").split("->")
    source, kernel = operands.split(",")
    contracted = [axis for axis in kernel if axis not in output]
    new = [axis for axis in kernel if axis in output]
    kept = list(source[: len(source) - len(contracted)])
    forms = (list(source), list(kernel), list(output)) == (
        kept + contracted,
        contracted + new,
        kept + new,
    )
    if (
        not forms
        or set(kept) & set(kernel)
        or (layer.bias is not None and layer.bias.ndim > len(new))
    ):
        raise ModelError(
            node.path,
            "an EinsumDense has an integer form if it contracts the last axes of its input "
            "with the first of its kernel, as 'abc,cd->abd' does, and its bias is over the new "
            "axes",
            "Use Dense, or Permute before it",
            f"equation={layer.equation!r}, bias_axes={layer.bias_axes!r}",
        )
    return _product(builder, node, wrapper, len(contracted))


def _product(builder: Builder, node: Node, wrapper: Quantized, contracted: int) -> Open:
    """Multiplies the last `contracted` axes of the input, taken as one, by the weights."""
    weights = weights_of(wrapper, node.path)
    units, inputs = weights.codes.shape
    source = builder.integer(node.inputs[0], node.path)
    kept = static_shape(node.inputs[0], node.path)[:-contracted]
    if len(kept) == 1:
        return Open(
            "FULLY_CONNECTED",
            (builder.reshaped(source, (1, inputs)),),
            (1, units),
            node.path,
            {},
            weights,
        )
    return Open(
        "CONV_2D",
        (builder.reshaped(source, image_shape((*kept, inputs))),),
        image_shape((*kept, units)),
        node.path,
        {"padding": "VALID", "stride": (1, 1), "dilation": (1, 1)},
        replace(weights, codes=weights.codes[:, np.newaxis, np.newaxis]),
    )
