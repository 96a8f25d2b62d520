"""Which tensors of a model are quantized, and which of them share one grid.

An integer runtime holds every tensor between its operators as codes on a grid, so each such tensor
needs an activation quantizer. A tensor that the next operation absorbs needs none: a convolution's
output before its BatchNormalization or ReLU exists only inside the accumulator.

`RULES` decides for one tensor (an edge of the graph) at a time. The rules are asked in this order,
and the first that has an answer decides:

| rule | the tensor is | quantized |
|---|---|---|
| `is_not_float` | integers or booleans | no |
| `enters_the_integers` | an input, or made in float | if an integer layer reads it |
| `stays_on_its_grid` | moved or concatenated | no; after a maximum of unrounded values, yes |
| `is_a_gain_for_weights_ahead` | `gain * x`, and readers fold the gain in | no |
| `leaves_the_model` | an output | yes; if its operator dictates the grid, no |
| `is_held_for_readers` | read by several layers, or by one left in float | yes |
| `is_moved_next` | read by what moves it | yes; if that is a maximum that takes it unrounded, no |
| `has_its_own_activation` | made by a layer with an activation | yes |
| `meets_a_relu` | read by a ReLU or a clip | if the operator that makes it cannot fuse the ReLU |
| `meets_absorbing_weights` | made by weights, read by what folds into them | no |
| `is_held` | none of these | yes |

For example, convolution, BatchNormalization, ReLU and a pool by maximum before a dense layer:

    >>> from tfqreg.graph.flat import flatten
    >>> x = image = keras.Input((8, 8, 3), name="image")
    >>> x = keras.layers.Conv2D(4, 3, name="conv")(x)
    >>> x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    >>> x = keras.layers.Flatten(name="flatten")(keras.layers.MaxPooling2D(name="pool")(x))
    >>> graph = flatten(keras.Model(image, keras.layers.Dense(2, name="head")(x)))
    >>> for edge in edges_of(graph):
    ...     rule, quantized = decide(edge, skipped=set())
    ...     print(edge.producer.path if edge.producer else "image", rule.__name__, quantized)
    image enters_the_integers True
    conv meets_absorbing_weights False
    norm meets_a_relu False
    relu is_moved_next False
    pool stays_on_its_grid True
    flatten stays_on_its_grid False
    head leaves_the_model True

So three tensors are quantized: the image, what the pool gives (rounding commutes with a maximum,
and is cheaper after it), and the output. `flatten` is on the grid of `pool`: `place` joins what
moves, averages and concatenations have on both sides.
"""

from collections.abc import Callable, Iterable

import keras

from tfqreg.graph.flat import Edge, FlatGraph, Node
from tfqreg.graph.roles import (
    FIXED_GRIDS,
    MAXIMA,
    Role,
    activation_name,
    function_name,
    is_never_negative,
    reduced_axes,
    role,
)

# Roles by what the rules ask of them; those of `is_signed` come last.
HAS_WEIGHTS = frozenset({Role.WEIGHTED_SUM, Role.NORM, Role.AFFINE, Role.SCALE})
ABSORBED_BY_WEIGHTS = frozenset({Role.NORM, Role.AFFINE, Role.SCALE, Role.HARD_SIGMOID})
FUSES_RELU = HAS_WEIGHTS | {Role.SUM, Role.PRODUCT, Role.MEAN}
CLIPS = frozenset({Role.RELU, Role.CLIP})
POOLED_BEFORE_ROUNDING = CLIPS | {Role.WEIGHTED_SUM, Role.NORM, Role.SUM}
STAYS_ON_ITS_GRID = frozenset({Role.KEEP, Role.CONCAT})
SHARES_ITS_INPUTS_GRID = STAYS_ON_ITS_GRID | {Role.AVERAGE}
GRID_FOLLOWS_FROM_INPUT = SHARES_ITS_INPUTS_GRID | {Role.SCALE}
SIGN_LEFT_TO_DATA = frozenset({Role.AFFINE, Role.FUNCTION, Role.OTHER})
SIGN_OF_ITS_INPUTS = GRID_FOLLOWS_FROM_INPUT | {Role.SUM, Role.PRODUCT, Role.MEAN}

# Whether a tensor is quantized, or None: the next rule decides. `skipped` stays in float.
Rule = Callable[[Edge, set[Node]], bool | None]


def is_not_float(edge: Edge, skipped: set[Node]) -> bool | None:
    """Never quantizes integers and booleans."""
    return None if keras.backend.is_float_dtype(edge.keras_tensor.dtype) else False


def enters_the_integers(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes what comes from outside if an integer layer reads it."""
    if edge.producer is None or edge.producer in skipped:
        return any(node not in skipped for node in edge.consumers)
    return None


def stays_on_its_grid(edge: Edge, skipped: set[Node]) -> bool | None:
    """Leaves alone what an operation only moves: its input is rounded, or was not to be."""
    producer = edge.producer
    if producer is None or role(producer.operation) not in STAYS_ON_ITS_GRID:
        return None
    return role(producer.operation) == Role.KEEP and takes_input_unrounded(producer)


def is_a_gain_for_weights_ahead(edge: Edge, skipped: set[Node]) -> bool | None:
    """Leaves alone `gain * x` if every reader takes the gain into its weights."""
    return False if _producing(edge) == Role.SCALE and is_absorbed(edge, skipped) else None


def leaves_the_model(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes an output, unless its operator dictates the grid."""
    return _producing(edge) != Role.FIXED_GRID if edge.is_output else None


def is_held_for_readers(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes what has more readers than one, or one in float: nothing can absorb it."""
    return True if len(edge.consumers) != 1 or edge.consumers[0] in skipped else None


def is_moved_next(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes before an operation that moves, unless that is a maximum to be rounded after."""
    reader = edge.consumers[0]
    return not takes_input_unrounded(reader) if role(reader.operation) == Role.KEEP else None


def has_its_own_activation(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes after an activation that is part of the layer: nothing else follows inside."""
    producer = edge.producer
    own = producer is not None and activation_name(producer.operation) != "linear"
    return True if own else None


def meets_a_relu(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes before a ReLU or clip that the operator in front of it cannot fuse."""
    if role(edge.consumers[0].operation) in CLIPS:
        return _producing(edge) not in FUSES_RELU
    return None


def meets_absorbing_weights(edge: Edge, skipped: set[Node]) -> bool | None:
    """Leaves alone what folds into the weights that made it, or clips what they give."""
    following = role(edge.consumers[0].operation)
    folds = following in ABSORBED_BY_WEIGHTS and _producing(edge) in HAS_WEIGHTS
    return False if folds else None


def is_held(edge: Edge, skipped: set[Node]) -> bool | None:
    """Quantizes what the runtime keeps between two operators: all that no other rule decides."""
    return True


# Each rule relies on those before it: from `stays_on_its_grid` on there is a producer in integers,
# from `is_moved_next` on there is exactly one reader.
RULES: tuple[Rule, ...] = (
    is_not_float,
    enters_the_integers,
    stays_on_its_grid,
    is_a_gain_for_weights_ahead,
    leaves_the_model,
    is_held_for_readers,
    is_moved_next,
    has_its_own_activation,
    meets_a_relu,
    meets_absorbing_weights,
    is_held,
)


def decide(edge: Edge, skipped: set[Node]) -> tuple[Rule, bool]:
    """Returns the rule that decides on a tensor, and whether the tensor is quantized."""
    answers = ((rule, rule(edge, skipped)) for rule in RULES)
    return next((rule, answer) for rule, answer in answers if answer is not None)


def needs_quantizer(edge: Edge, skipped: set[Node]) -> bool:
    """Returns whether a tensor's values have to be rounded where they arise."""
    return decide(edge, skipped)[1]


def _producing(edge: Edge) -> Role | None:
    """Returns the role of what makes a tensor, None for an input of the model."""
    return role(edge.producer.operation) if edge.producer else None


def takes_input_unrounded(node: Node) -> bool:
    """Returns whether an operation is a maximum of what was computed for it alone.

    Rounding commutes with it, and is cheaper after it.
    """
    edge = node.inputs[0]
    return (
        type(node.operation).__name__ in MAXIMA
        and is_over_image(node)
        and _producing(edge) in POOLED_BEFORE_ROUNDING
        and len(edge.consumers) == 1
        and not edge.is_output
    )


def is_over_image(node: Node) -> bool:
    """Returns whether a reduction is over all axes between the batch and the channels.

    Pools are, in windows.
    """
    operation, rank = node.operation, len(node.inputs[0].shape)
    if isinstance(operation, keras.layers.Layer) or not hasattr(operation, "keepdims"):
        return True
    return rank in (3, 4) and reduced_axes(operation, rank) == list(range(1, rank - 1))


def is_absorbed(edge: Edge, skipped: set[Node]) -> bool:
    """Returns whether `gain * x` needs no operator: its readers take the gain into weights."""
    return (
        not edge.is_output
        and _on_grid(edge.producer, skipped)
        and all(map(takes_gain, edge.consumers))
    )


def takes_gain(node: Node) -> bool:
    """Returns whether an input's gain folds into weights, here or where the values move to."""
    if role(node.operation) == Role.KEEP:
        return all(
            not edge.is_output and all(map(takes_gain, edge.consumers)) for edge in node.outputs
        )
    return role(node.operation) in HAS_WEIGHTS


def _on_grid(node: Node | None, skipped: set[Node]) -> bool:
    """Returns whether a node's input is rounded, itself or as what it was moved or scaled from."""
    edge = node.inputs[0] if node else None
    if edge is None or needs_quantizer(edge, skipped) or edge.producer is None:
        return True
    follows = _producing(edge) in GRID_FOLLOWS_FROM_INPUT
    return _producing(edge) == Role.FIXED_GRID or (follows and _on_grid(edge.producer, skipped))


def is_signed(edge: Edge) -> bool | None:
    """Returns whether a tensor can be negative, None if only data says."""
    if edge.producer is None:
        return None
    operation, producing = edge.producer.operation, _producing(edge)
    function = function_name(operation)
    if function in FIXED_GRIDS:
        return FIXED_GRIDS[function][1]
    if is_never_negative(operation):
        return False
    adds_a_constant = producing == Role.SUM and len(edge.producer.inputs) < 2
    if producing in SIGN_LEFT_TO_DATA or adds_a_constant:
        return None
    if producing in SIGN_OF_ITS_INPUTS:
        subtracts = type(operation).__name__ == "Subtract"
        return True if subtracts else any_signed(map(is_signed, edge.producer.inputs))
    return True


def any_signed(signs: Iterable[bool | None]) -> bool | None:
    """Returns whether one of several tensors can be negative, None if only data says."""
    found = set(signs)
    return True if True in found else None if None in found else False


def fixed_scale(edges: list[Edge]) -> float | None:
    """Returns the one scale that the operators before these tensors dictate, or None."""
    functions = [
        function_name(edge.producer.operation) if edge.producer else None for edge in edges
    ]
    scales = {FIXED_GRIDS[name][0] if name in FIXED_GRIDS else None for name in functions}
    return scales.pop() if len(scales) == 1 else None


class GridGroups:
    """Union-find over tensors: what is joined shares one grid."""

    def __init__(self) -> None:
        self.parent: dict[Edge, Edge] = {}

    def find(self, edge: Edge) -> Edge:
        """Returns the representative of a tensor's group."""
        while (above := self.parent.get(edge, edge)) is not edge:
            edge = above
        return edge

    def join(self, first: Edge, second: Edge) -> None:
        """Puts two tensors on one grid."""
        self.parent[self.find(second)] = self.find(first)


def edges_of(graph: FlatGraph) -> list[Edge]:
    """Returns every tensor of a graph, inputs first, then in the order in which they arise."""
    return [*graph.inputs, *(edge for node in graph.nodes for edge in node.outputs)]


def place(graph: FlatGraph, skipped: set[Node]) -> tuple[dict[int, Edge], dict[Edge, list[Edge]]]:
    """Returns which tensors are quantized, and which share a quantizer.

    Args:
        graph: the flat graph of a float model.
        skipped: nodes that stay in float.

    Returns:
        The representative edge for the id of every Keras tensor to quantize, and the edges each one
        stands for.
    """
    groups, edges = GridGroups(), edges_of(graph)
    first: dict[int, Edge] = {}
    for edge in edges:  # a tensor within a nested model is one edge per call, yet one quantizer
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
