"""Where activation quantizers go: one for every tensor that an integer runtime will hold, shared where scales must be.

A tensor that the next operation absorbs gets none: a convolution's output before its BatchNorm or ReLU exists only
inside the accumulator. Operations that move values without computing (pooling by maximum, reshaping, padding) keep
their input's grid; a concatenation asks one grid of all its inputs.
"""

from typing import Any

import keras

from tfqreg.graph import Edge, FlatGraph, Node
from tfqreg.layers.quantized import kernel_names

INFERENCE_IDENTITY = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout1D",
    "SpatialDropout2D",
)
MOVES = ("Flatten", "MaxPooling1D", "MaxPooling2D", "Reshape", "ZeroPadding1D", "ZeroPadding2D")
COMPUTES = ("linear", "norm", "relu", "sum")
AVERAGES = ("AveragePooling1D", "AveragePooling2D")


def kind(operation: Any) -> str:
    """Returns "linear", "norm", "relu", "softmax", "sum", "mean", "keep", "average", "concat" or "other"."""
    name = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) and (operation.negative_slope or operation.threshold):
        return "other"
    if kernel_names(operation) if isinstance(operation, keras.layers.Layer) else ():
        return "linear"
    by_name = {
        "BatchNormalization": "norm",
        "Add": "sum",
        "GlobalAveragePooling1D": "mean",
        "GlobalAveragePooling2D": "mean",
        "Concatenate": "concat",
        "Softmax": "softmax",
        "ReLU": "relu",
        "Relu": "relu",
        "Relu6": "relu",
        **dict.fromkeys(INFERENCE_IDENTITY + MOVES, "keep"),
        **dict.fromkeys(AVERAGES, "average"),
    }
    if name == "Activation":
        return {"linear": "keep", "relu": "relu", "relu6": "relu", "softmax": "softmax"}.get(
            activation_name(operation), "other"
        )
    return by_name.get(name, "other")


def activation_name(layer: Any) -> str:
    """Returns the name of a layer's activation function, "linear" where it has none."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", type(activation).__name__)


class Groups:
    """Union-find over edges: what is joined shares one grid."""

    def __init__(self) -> None:
        self.parent: dict[Edge, Edge] = {}

    def find(self, edge: Edge) -> Edge:
        """Returns the representative of an edge's group."""
        while (above := self.parent.get(edge, edge)) is not edge:
            edge = above
        return edge

    def join(self, first: Edge, second: Edge) -> None:
        """Puts two edges on one grid."""
        self.parent[self.find(second)] = self.find(first)


def absorbs(node: Node) -> bool:
    """Returns whether a maximum pool takes its input unrounded: rounding commutes with it, and is cheaper behind."""
    edge = node.inputs[0]
    computed = edge.producer is not None and kind(edge.producer.operation) in COMPUTES
    pools = type(node.operation).__name__ in ("MaxPooling1D", "MaxPooling2D")
    return pools and computed and len(edge.consumers) == 1 and not edge.is_output


def needs_quantizer(edge: Edge, skipped: set[Node]) -> bool:
    """Returns whether an edge's values have to be rounded where they arise."""
    producer = edge.producer
    if not keras.backend.is_float_dtype(edge.keras_tensor.dtype):
        return False
    if producer is None or producer in skipped:
        return any(node not in skipped for node in edge.consumers)
    producer_kind = kind(producer.operation)
    if producer_kind in ("keep", "concat"):
        return producer_kind == "keep" and absorbs(producer)
    if edge.is_output:
        return producer_kind != "softmax"
    if len(edge.consumers) != 1 or edge.consumers[0] in skipped:
        return True
    consumer = edge.consumers[0]
    following = kind(consumer.operation)
    if following == "keep":
        return not absorbs(consumer)
    if activation_name(producer.operation) != "linear":
        return True
    fuses_relu = following == "relu" and producer_kind in ("linear", "norm", "sum", "mean")
    fuses_norm = following == "norm" and producer_kind in ("linear", "norm")
    return not (fuses_relu or fuses_norm)


def is_signed(edge: Edge) -> bool | None:
    """Returns whether an edge can be negative; None where only data tells."""
    if edge.producer is None:
        return None
    operation = edge.producer.operation
    if kind(operation) == "sum" and len(edge.producer.inputs) < 2:
        return None  # a constant is added
    if kind(operation) in ("relu", "softmax") or activation_name(operation) in ("relu", "relu6"):
        return False
    if kind(operation) in ("sum", "mean", "average", "concat", "keep"):
        signs = {is_signed(source) for source in edge.producer.inputs}
        return True if True in signs else None if None in signs else False
    return None if kind(operation) == "other" else True


def place(graph: FlatGraph, skipped: set[Node]) -> tuple[dict[int, Edge], dict[Edge, list[Edge]]]:
    """Decides which tensors are quantized, and which share a quantizer.

    Args:
        graph: the flat graph of a float model.
        skipped: nodes that stay in float.

    Returns:
        The representative edge for the id of every Keras tensor to quantize, and the edges each one stands for.
    """
    groups = Groups()
    edges = [*graph.inputs, *(edge for node in graph.nodes for edge in node.outputs)]
    first: dict[int, Edge] = {}
    for edge in edges:  # a tensor within a nested model is one edge a call, yet one quantizer
        groups.join(first.setdefault(id(edge.keras_tensor), edge), edge)
    for node in graph.nodes:
        if node not in skipped and kind(node.operation) in ("keep", "average", "concat"):
            for edge in node.inputs:
                groups.join(node.outputs[0], edge)
    chosen = [edge for edge in edges if needs_quantizer(edge, skipped)]
    members: dict[Edge, list[Edge]] = {}
    for edge in chosen:
        members.setdefault(groups.find(edge), []).append(edge)
    return {id(edge.keras_tensor): groups.find(edge) for edge in chosen}, members
