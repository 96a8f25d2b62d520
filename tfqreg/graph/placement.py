"""Where activation quantizers go: one for every tensor that an integer runtime will hold, shared
where scales must be.

A tensor that the next operation absorbs gets none: a convolution's output before its BatchNorm or
ReLU exists only inside the accumulator. Operations that move values without computing (pooling by
maximum, reshaping, padding) keep their input's grid; a concatenation asks one grid of all its
inputs.
"""

from enum import StrEnum
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


class Role(StrEnum):
    """What an operation is to the placement of quantizers."""

    WEIGHTED_SUM = "weighted_sum"  # has a kernel: dense layers and convolutions
    NORM = "norm"  # BatchNormalization
    AFFINE = "affine"  # `gain * x + offset` with constants
    SCALE = "scale"  # the same with one positive gain and no offset
    RELU = "relu"
    HARD_SIGMOID = "hard_sigmoid"
    SUM = "sum"
    PRODUCT = "product"
    MEAN = "mean"
    AVERAGE = "average"  # computes, and stays on its input's grid
    KEEP = "keep"  # moves values without computing, so stays on its input's grid
    CONCAT = "concat"  # stays on the one grid of all its inputs
    FIXED_GRID = "fixed_grid"  # its operator dictates the grid
    OTHER = "other"


HAS_WEIGHTS = frozenset({Role.WEIGHTED_SUM, Role.NORM, Role.AFFINE, Role.SCALE})
ABSORBED_BY_WEIGHTS = frozenset({Role.NORM, Role.AFFINE, Role.SCALE, Role.HARD_SIGMOID})
FUSES_RELU = HAS_WEIGHTS | {Role.SUM, Role.PRODUCT, Role.MEAN}
POOLED_BEFORE_ROUNDING = frozenset({Role.WEIGHTED_SUM, Role.NORM, Role.RELU, Role.SUM})
NEVER_ROUNDS = frozenset({Role.KEEP, Role.CONCAT})
SHARES_ITS_INPUTS_GRID = frozenset({Role.KEEP, Role.AVERAGE, Role.CONCAT})
GRID_KNOWN_FROM_INPUT = SHARES_ITS_INPUTS_GRID | {Role.SCALE}
NEVER_NEGATIVE = frozenset({Role.RELU, Role.HARD_SIGMOID})
SIGN_LEFT_TO_DATA = frozenset({Role.AFFINE, Role.OTHER})
SIGN_OF_ITS_INPUTS = GRID_KNOWN_FROM_INPUT | {Role.SUM, Role.PRODUCT, Role.MEAN}

ROLE_OF_FUNCTION = {
    "linear": Role.KEEP,
    "relu": Role.RELU,
    "relu6": Role.RELU,
    "hard_sigmoid": Role.HARD_SIGMOID,
    **dict.fromkeys(FIXED_GRIDS, Role.FIXED_GRID),
}
ROLE_OF_CLASS = {
    "BatchNormalization": Role.NORM,
    "Add": Role.SUM,
    "Subtract": Role.SUM,
    "Multiply": Role.PRODUCT,
    "GlobalAveragePooling1D": Role.MEAN,
    "GlobalAveragePooling2D": Role.MEAN,
    "Mean": Role.MEAN,
    "Concatenate": Role.CONCAT,
    **dict.fromkeys(INFERENCE_IDENTITY + MOVES, Role.KEEP),
    **dict.fromkeys(AVERAGES, Role.AVERAGE),
}
ROLE_OF_INTERPOLATION = {"nearest": Role.KEEP, "bilinear": Role.AVERAGE}


def role(operation: Any) -> Role:
    """Returns what an operation is to the placement of quantizers.

    Example:
        >>> print(role(keras.layers.Dense(3)), role(keras.layers.Flatten()))
        weighted_sum keep
    """
    name = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) and (
        operation.negative_slope or operation.threshold
    ):
        return Role.OTHER
    if kernel_names(operation) if isinstance(operation, keras.layers.Layer) else ():
        return Role.WEIGHTED_SUM
    if affine_of(operation) is not None:
        return Role.SCALE if is_scale(operation) else Role.AFFINE
    if name in RESIZES:
        return ROLE_OF_INTERPOLATION.get(operation.interpolation, Role.OTHER)
    if name in ("Maximum", "Minimum"):
        return Role.CONCAT if constant_operand(operation) is None else Role.AVERAGE
    function = function_name(operation)
    if function is not None:
        return ROLE_OF_FUNCTION.get(function, Role.OTHER)
    return ROLE_OF_CLASS.get(name, Role.OTHER)


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
    computed = edge.producer is not None and role(edge.producer.operation) in POOLED_BEFORE_ROUNDING
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
    producing = role(producer.operation)
    if producing in NEVER_ROUNDS:
        return producing == Role.KEEP and absorbs(producer)
    if producing == Role.SCALE and is_absorbed(edge, skipped):
        return False
    if edge.is_output:
        return producing != Role.FIXED_GRID
    if len(edge.consumers) != 1 or edge.consumers[0] in skipped:
        return True
    consumer = edge.consumers[0]
    following = role(consumer.operation)
    if following == Role.KEEP:
        return not absorbs(consumer)
    if activation_name(producer.operation) != "linear":
        return True
    if following == Role.RELU:
        return producing not in FUSES_RELU
    return not (following in ABSORBED_BY_WEIGHTS and producing in HAS_WEIGHTS)


def is_absorbed(edge: Edge, skipped: set[Node]) -> bool:
    """Returns whether the output of a `SCALE` needs no operator: what reads it takes the gain into
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
    if role(node.operation) == Role.KEEP:
        return all(not edge.is_output and all(map(takes_gain, edge.consumers)) for edge in outputs)
    return role(node.operation) in HAS_WEIGHTS


def _on_grid(node: Node | None, skipped: set[Node]) -> bool:
    """Returns whether a node's input is rounded, by itself or as the input of a node that keeps the
    grid.
    """
    edge = node.inputs[0] if node else None
    if edge is None or needs_quantizer(edge, skipped) or edge.producer is None:
        return True
    producing = role(edge.producer.operation)
    passes = producing in GRID_KNOWN_FROM_INPUT
    return producing == Role.FIXED_GRID or (passes and _on_grid(edge.producer, skipped))


def is_signed(edge: Edge) -> bool | None:
    """Returns whether an edge can be negative; None where only data tells."""
    if edge.producer is None:
        return None
    operation = edge.producer.operation
    producing, function = role(operation), function_name(operation)
    if function in FIXED_GRIDS:
        return FIXED_GRIDS[function][1]
    if producing in NEVER_NEGATIVE or activation_name(operation) in ("relu", "relu6"):
        return False
    if producing in SIGN_LEFT_TO_DATA or (producing == Role.SUM and len(edge.producer.inputs) < 2):
        return None
    if producing in SIGN_OF_ITS_INPUTS:
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
        if node not in skipped and role(node.operation) in SHARES_ITS_INPUTS_GRID:
            for edge in (*node.inputs, *node.outputs[1:]):
                groups.join(node.outputs[0], edge)
    chosen = [edge for edge in edges if needs_quantizer(edge, skipped)]
    members: dict[Edge, list[Edge]] = {}
    for edge in chosen:
        members.setdefault(groups.find(edge), []).append(edge)
    return {id(edge.keras_tensor): groups.find(edge) for edge in chosen}, members
