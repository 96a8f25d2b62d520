"""One short function a Keras layer: what it becomes in the integer graph.

A function takes the builder and the node and returns the node's value: an int8 tensor, or an operator left open for
the BatchNorm, ReLU and quantizer that follow.
"""

from tfqreg.graph import Node
from tfqreg.placement import INFERENCE_IDENTITY

from ..build import Builder, Value
from . import activations, elementwise, layout, pooling, products
from .common import Lowering, same_value


def _quantizer(builder: Builder, node: Node) -> Value:
    return builder.quantized(builder.values[node.inputs[0]], node.operation)


LOWERINGS: dict[str, Lowering] = {
    **products.LOWERINGS,
    **activations.LOWERINGS,
    **elementwise.LOWERINGS,
    **layout.LOWERINGS,
    **pooling.LOWERINGS,
    "QuantizedActivation": _quantizer,
    **dict.fromkeys(INFERENCE_IDENTITY, same_value),
}
