"""One short function per Keras layer: what it becomes in the integer graph.

A function takes the builder and the node and returns the node's value: an int8 tensor, or an
operator left open for the BatchNorm, ReLU and quantizer that follow.
"""

from tfqreg.graph.flat import Node
from tfqreg.graph.roles import INFERENCE_IDENTITY

from . import (
    activations,
    affine,
    elementwise,
    functions,
    layout,
    pooling,
    products,
    resizing,
    slicing,
)
from .builder import Builder, Value
from .common import Lowering, same_value
from .shapes import static_shape


def _quantizer(builder: Builder, node: Node) -> Value:
    name = builder.quantized(builder.values[node.inputs[0]], node.operation)
    return builder.reshaped(name, static_shape(node.outputs[0], node.path))


LOWERINGS: dict[str, Lowering] = {
    **products.LOWERINGS,
    **activations.LOWERINGS,
    **affine.LOWERINGS,
    **elementwise.LOWERINGS,
    **functions.LOWERINGS,
    **layout.LOWERINGS,
    **pooling.LOWERINGS,
    **resizing.LOWERINGS,
    **slicing.LOWERINGS,
    "QuantizedActivation": _quantizer,
    "MultiBitActivation": _quantizer,
    **dict.fromkeys(INFERENCE_IDENTITY, same_value),
}
