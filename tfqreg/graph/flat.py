"""A Keras functional model as a flat list of operations, and a way to build it anew."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfqreg.errors import ModelError, ModelTypeError


@dataclass(eq=False)
class Edge:
    """One tensor between operations. `producer` is None for a model input."""

    keras_tensor: Any
    producer: "Node | None" = None
    consumers: list["Node"] = field(default_factory=list)
    is_output: bool = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, batch dimension first."""
        return tuple(self.keras_tensor.shape)


@dataclass(eq=False)
class Node:
    """One call of one operation, a layer or a `keras.ops` function.

    `path` is "nested_model/layer"; `args` and `kwargs` are those of the call, Keras tensors among
    them.
    """

    operation: Any
    path: str
    inputs: list[Edge]
    outputs: list[Edge]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class FlatGraph:
    """Nodes in execution order, with the edges that enter and leave the model."""

    nodes: list[Node]
    inputs: list[Edge]
    outputs: list[Edge]


def functional(model: Any, path: str = "") -> Any:
    """Returns the Functional graph of a Functional or Sequential model.

    Args:
        model: any Keras model.
        path: names the model in errors; its own name by default.

    Raises:
        ModelTypeError: for a subclassed model, which has no graph, or no model at all.
        ModelError: for a Sequential model whose input shape is not known yet.
    """
    if not isinstance(model, keras.Model):
        raise _no_model(model)
    name = path or model.name
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:
            raise ModelError(
                name,
                "the input shape is unknown",
                "Start the Sequential with keras.Input(shape), or call the model on data first",
            )
        return model._functional
    if not hasattr(model, "_nodes_by_depth"):
        raise ModelTypeError(
            name,
            f"{type(model).__name__} is a subclassed model and has no graph to walk",
            "Wrap its layers where they are made: self.conv = tfqreg.Quantized("
            "keras.layers.Conv2D(32, 3), weights=tfqreg.Uniform(4)), with "
            "tfqreg.QuantizedActivation() after each activation",
        )
    return model


def _no_model(model: Any) -> ModelTypeError:
    """Returns the error for what stands in place of a model."""
    fix = "Build one: keras.Model(inputs, outputs) or keras.Sequential([keras.Input(shape), ...])"
    if isinstance(model, str | Path):
        fix = f"Load it first: keras.models.load_model({str(model)!r})"
    elif isinstance(model, keras.layers.Layer):
        fix = "Put the layer into a model, or wrap it alone: tfqreg.Quantized(layer)"
    elif hasattr(model, "get_weights") and hasattr(model, "save"):
        fix = (
            "Save a Keras 2 model with model.save('m.h5'), and load it with Keras 3: "
            "keras.models.load_model('m.h5')"
        )
    kind = f"{type(model).__module__}.{type(model).__name__}"
    return ModelTypeError("", "`model` must be a keras.Model of Keras 3", fix, f"model of {kind}")


def is_model(operation: Any) -> bool:
    """Returns whether an operation is a nested model."""
    return isinstance(operation, keras.Model)


def keras_nodes(model: Any) -> list[Any]:
    """Returns the Keras nodes of a functional graph in execution order, inputs left out."""
    nodes = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    return [node for node in nodes if not isinstance(node.operation, keras.layers.InputLayer)]


def flatten(model: Any) -> FlatGraph:
    """Returns the flat graph of a Functional or Sequential model, its nested models opened.

    Raises:
        ModelTypeError, ModelError: as `functional`.

    Example:
        >>> dense, relu = keras.layers.Dense(2, name="fc"), keras.layers.ReLU(name="b")
        >>> inner = keras.Sequential([keras.Input((4,)), dense], name="a")
        >>> model = keras.Sequential([keras.Input((4,)), inner, relu])
        >>> [node.path for node in flatten(model).nodes]
        ['a/fc', 'b']
    """
    graph = FlatGraph([], [], [])
    top = functional(model)
    graph.inputs = [Edge(tensor) for tensor in keras.tree.flatten(top.inputs)]
    graph.outputs = _walk(top, "", graph.inputs, graph.nodes)
    for edge in graph.outputs:
        edge.is_output = True
    return graph


def _walk(model: Any, prefix: str, inputs: list[Edge], nodes: list[Node]) -> list[Edge]:
    edges = {
        id(tensor): edge
        for tensor, edge in zip(keras.tree.flatten(model.inputs), inputs, strict=True)
    }
    for keras_node in keras_nodes(model):
        operation = keras_node.operation
        path = prefix + operation.name
        sources = [edges[id(tensor)] for tensor in keras_node.input_tensors]
        targets = keras.tree.flatten(keras_node.output_tensors)
        if is_model(operation):
            results = _walk(functional(operation, path), path + "/", sources, nodes)
        else:
            arguments = keras_node.arguments
            node = Node(operation, path, sources, [], tuple(arguments.args), dict(arguments.kwargs))
            node.outputs = results = [Edge(tensor, node) for tensor in targets]
            for edge in sources:
                edge.consumers.append(node)
            nodes.append(node)
        edges.update((id(tensor), edge) for tensor, edge in zip(targets, results, strict=True))
    return [edges[id(tensor)] for tensor in keras.tree.flatten(model.outputs)]


def rebuild(
    model: Any,
    replace: Callable[[str, Any], Callable[..., Any]],
    after: Callable[[Any, Any], Any] = lambda old, new: new,
    prefix: str = "",
    cache: dict[int, Any] | None = None,
) -> keras.Model:
    """Returns a new Functional model of the same graph, nested models kept.

    Args:
        model: a Functional or Sequential model.
        replace: maps the path and the operation to what is called in its place, once for a shared
            operation.
        after: maps a tensor of the old graph and its new counterpart to the tensor that consumers
            see; the new one by default.
        prefix: path of the model in the one that holds it, for the recursion.
        cache: the new operations by the ids of the old ones, for the recursion.

    Raises:
        ModelTypeError, ModelError: as `functional`.
    """
    cache = {} if cache is None else cache
    top = functional(model, prefix.rstrip("/"))
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), top.input
    )
    tensors = {
        id(old): after(old, new)
        for old, new in zip(keras.tree.flatten(top.input), keras.tree.flatten(inputs), strict=True)
    }
    for node in keras_nodes(top):
        operation, path = node.operation, prefix + node.operation.name
        if id(operation) not in cache:
            nested = is_model(operation)
            cache[id(operation)] = (
                rebuild(operation, replace, after, path + "/", cache)
                if nested
                else replace(path, operation)
            )
        args, kwargs = node.arguments.fill_in(tensors)
        results = keras.tree.flatten(cache[id(operation)](*args, **kwargs))
        for old, new in zip(keras.tree.flatten(node.output_tensors), results, strict=True):
            tensors[id(old)] = after(old, new)
    outputs = keras.tree.map_structure(lambda old: tensors[id(old)], top.output)
    return keras.Model(inputs, outputs, name=model.name)


def clone(operation: Any) -> Any:
    """Returns a fresh operation of the same configuration, weights not copied.

    Raises:
        ModelError: for a Lambda, or a class whose `get_config` does not hold what its constructor
            takes.
    """
    name = type(operation).__name__
    if isinstance(operation, keras.layers.Lambda):
        raise ModelError(
            operation.name,
            "a Lambda cannot be copied",
            "Write its function in keras.ops, or use a layer of Keras or of your own",
        )
    try:
        return type(operation).from_config(operation.get_config())
    except (NotImplementedError, TypeError) as error:
        raise ModelError(
            operation.name,
            f"a {name} cannot be copied",
            "Give it a `get_config` with all that its constructor takes",
            str(error).strip().splitlines()[0],
        ) from error


def set_weights_of(pairs: list[tuple[Any, Any]]) -> None:
    """Copies the weights of every (old, new) pair of operations that has any."""
    for old, new in pairs:
        if isinstance(old, keras.layers.Layer) and old.weights:
            new.set_weights(old.get_weights())
            if isinstance(new, keras.layers.Normalization):
                new.finalize_state()  # its mean and variance are copies of its weights
