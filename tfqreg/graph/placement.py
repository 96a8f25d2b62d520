"""Where activation quantizers go: one for every tensor that an integer runtime will hold, shared
where scales must be.

A tensor that the next operation absorbs gets none: a convolution's output before its BatchNorm or
ReLU exists only inside the accumulator. Operations that move values without computing (pooling by
maximum, reshaping, padding) keep their input's grid; a concatenation asks one grid of all its
inputs.
"""

from typing import Any

import keras

from tfqreg.graph.affine import affine_of, constant_operand, is_scale
from tfqreg.graph.flat import Edge, FlatGraph, Node
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
MAXIMA = (
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "Max",
    "MaxPool",
    "MaxPooling1D",
    "MaxPooling2D",
)
MOVES = (
    *MAXIMA,
    "Cropping1D",
    "Cropping2D",
    "DepthToSpace",
    "ExpandDims",
    "Flatten",
    "GetItem",
    "Moveaxis",
    "Pad",
    "Permute",
    "Reshape",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Swapaxes",
    "Transpose",
    "UpSampling1D",
    "ZeroPadding1D",
    "ZeroPadding2D",
)
RESIZES = ("Resize", "Resizing", "UpSampling2D")
COMPUTES = ("linear", "norm", "relu", "sum")
HAS_WEIGHTS = ("linear", "norm", "affine", "scale")
FUNCTIONS = {
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "LeakyReLU": "leaky_relu",
    "LeakyRelu": "leaky_relu",
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softmax": "softmax",
    "Tanh": "tanh",
}
# Their operators dictate the output's grid: scale, and whether it is signed.
FIXED_GRIDS = {"sigmoid": (1 / 256, False), "softmax": (1 / 256, False), "tanh": (1 / 128, True)}
AVERAGES = ("AveragePool", "AveragePooling1D", "AveragePooling2D")


def kind(operation: Any) -> str:
    """Returns what an operation is to the placement of quantizers.

    "linear" has a kernel; "norm", "affine" and "scale" compute `gain * x + offset`, "scale" with
    one positive gain alone; "relu" and "hard_sigmoid" clip; "sum", "product" and "mean" combine;
    "keep" and "average" stay on their input's grid, "concat" on that of all inputs; "fixed" has a
    grid that its operator dictates; "other" is the rest.
    """
    name = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) and (
        operation.negative_slope or operation.threshold
    ):
        return "other"
    if kernel_names(operation) if isinstance(operation, keras.layers.Layer) else ():
        return "linear"
    if affine_of(operation) is not None:
        return "scale" if is_scale(operation) else "affine"
    if name in RESIZES:
        return {"nearest": "keep", "bilinear": "average"}.get(operation.interpolation, "other")
    if name in ("Maximum", "Minimum"):
        return "concat" if constant_operand(operation) is None else "average"
    function = function_name(operation)
    if function is not None:
        by_function = {
            "linear": "keep",
            "relu": "relu",
            "relu6": "relu",
            "hard_sigmoid": "hard_sigmoid",
        }
        return "fixed" if function in FIXED_GRIDS else by_function.get(function, "other")
    by_name = {
        "BatchNormalization": "norm",
        "Add": "sum",
        "Subtract": "sum",
        "Multiply": "product",
        "GlobalAveragePooling1D": "mean",
        "GlobalAveragePooling2D": "mean",
        "Mean": "mean",
        "Concatenate": "concat",
        **dict.fromkeys(INFERENCE_IDENTITY + MOVES, "keep"),
        **dict.fromkeys(AVERAGES, "average"),
    }
    return by_name.get(name, "other")


def function_name(operation: Any) -> str | None:
    """Returns the name of the function that an activation layer or operation computes; None for any
    other.
    """
    if isinstance(operation, keras.layers.Activation):
        return activation_name(operation)
    return FUNCTIONS.get(type(operation).__name__)


def activation_name(layer: Any) -> str:
    """Returns the name of a layer's activation function, "linear" where it has none."""
    activation = getattr(layer, "activation", None)
    return (
        "linear"
        if activation is None
        else getattr(activation, "__name__", type(activation).__name__)
    )


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
    """Returns whether a maximum pool takes its input unrounded: rounding commutes with it, and is
    cheaper behind.
    """
    edge = node.inputs[0]
    computed = edge.producer is not None and kind(edge.producer.operation) in COMPUTES
    return (
        type(node.operation).__name__ in MAXIMA
        and computed
        and len(edge.consumers) == 1
        and not edge.is_output
    )


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
    if producer_kind == "scale" and is_absorbed(edge, skipped):
        return False
    if edge.is_output:
        return producer_kind != "fixed"
    if len(edge.consumers) != 1 or edge.consumers[0] in skipped:
        return True
    consumer = edge.consumers[0]
    following = kind(consumer.operation)
    if following == "keep":
        return not absorbs(consumer)
    if activation_name(producer.operation) != "linear":
        return True
    if following == "relu":
        return producer_kind not in (*HAS_WEIGHTS, "sum", "product", "mean")
    return not (following in (*HAS_WEIGHTS[1:], "hard_sigmoid") and producer_kind in HAS_WEIGHTS)


def is_absorbed(edge: Edge, skipped: set[Node]) -> bool:
    """Returns whether the output of a "scale" needs no operator: what reads it takes the gain into
    its weights.
    """
    return (
        not edge.is_output
        and _on_grid(edge.producer, skipped)
        and all(map(takes_gain, edge.consumers))
    )


def takes_gain(node: Node) -> bool:
    """Returns whether an operation has weights that its input's gain folds into, or only moves
    values to such.
    """
    outputs = node.outputs
    if kind(node.operation) == "keep":
        return all(not edge.is_output and all(map(takes_gain, edge.consumers)) for edge in outputs)
    return kind(node.operation) in HAS_WEIGHTS


def _on_grid(node: Node | None, skipped: set[Node]) -> bool:
    """Returns whether a node's input is rounded, by itself or as the input of a node that keeps the
    grid.
    """
    edge = node.inputs[0] if node else None
    if edge is None or needs_quantizer(edge, skipped) or edge.producer is None:
        return True
    passes = kind(edge.producer.operation) in ("keep", "concat", "average", "scale")
    return kind(edge.producer.operation) == "fixed" or (passes and _on_grid(edge.producer, skipped))


def is_signed(edge: Edge) -> bool | None:
    """Returns whether an edge can be negative; None where only data tells."""
    if edge.producer is None:
        return None
    operation = edge.producer.operation
    producer_kind, function = kind(operation), function_name(operation)
    if function in FIXED_GRIDS:
        return FIXED_GRIDS[function][1]
    if producer_kind in ("relu", "hard_sigmoid") or activation_name(operation) in ("relu", "relu6"):
        return False
    if producer_kind in ("affine", "other") or (
        producer_kind == "sum" and len(edge.producer.inputs) < 2
    ):
        return None
    if producer_kind in ("sum", "product", "mean", "average", "concat", "keep", "scale"):
        signs = {is_signed(source) for source in edge.producer.inputs}
        subtracts = type(operation).__name__ == "Subtract"
        return True if subtracts or True in signs else None if None in signs else False
    return True


def fixed_scale(edges: list[Edge]) -> float | None:
    """Returns the scale that the operators dictate behind which all of the edges stand; None where
    they do not.
    """
    functions = [
        function_name(edge.producer.operation) if edge.producer else None for edge in edges
    ]
    scales = {FIXED_GRIDS[name][0] if name in FIXED_GRIDS else None for name in functions}
    return scales.pop() if len(scales) == 1 else None


def place(graph: FlatGraph, skipped: set[Node]) -> tuple[dict[int, Edge], dict[Edge, list[Edge]]]:
    """Decides which tensors are quantized, and which share a quantizer.

    Args:
        graph: the flat graph of a float model.
        skipped: nodes that stay in float.

    Returns:
        The representative edge for the id of every Keras tensor to quantize, and the edges each one
        stands for.
    """
    groups = Groups()
    edges = [*graph.inputs, *(edge for node in graph.nodes for edge in node.outputs)]
    first: dict[int, Edge] = {}
    for edge in edges:  # a tensor within a nested model is one edge a call, yet one quantizer
        groups.join(first.setdefault(id(edge.keras_tensor), edge), edge)
    for node in graph.nodes:
        if node not in skipped and kind(node.operation) in ("keep", "average", "concat"):
            for edge in (*node.inputs, *node.outputs[1:]):
                groups.join(node.outputs[0], edge)
    chosen = [edge for edge in edges if needs_quantizer(edge, skipped)]
    members: dict[Edge, list[Edge]] = {}
    for edge in chosen:
        members.setdefault(groups.find(edge), []).append(edge)
    return {id(edge.keras_tensor): groups.find(edge) for edge in chosen}, members
