"""`remove_dead_units`: units and channels that compute nothing leave the model, so that its graph
shrinks.

A unit is dead where no weight reads it, or where none of its own weights is left: what it gives
then is a constant, which the next layer's bias takes over: `b' = b + sum over the kernel's window
of w * constant`.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.flat import FlatGraph, Node, clone, flatten, rebuild
from tfqreg.layers import ActivationQuantizer, Quantized
from tfqreg.regularizers.penalty import shared_copy

PRODUCERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
PASSING = (
    *DEPTHWISE,
    ActivationQuantizer,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
)


@dataclass
class Chain:
    """A layer, what its channels pass on the way, and the layer that reads them."""

    producer: Node
    passing: list[Node]
    reader: Node


def remove_dead_units(model: keras.Model) -> keras.Model:
    """Returns a copy of the model without its dead units and channels; its outputs are the same.

    Weights, masks, scales, coefficients and stages of the survivors are kept, so that training goes
    on (compile anew) and export follows. Between a dense layer or convolution and the next,
    activations, quantizers, pooling, Flatten, BatchNormalization, Dropout and depthwise
    convolutions may stand. All else is left alone: branches, layers called twice, grouped
    convolutions, and constants that no bias can take over.

    Args:
        model: Functional or Sequential, wrapped or not; where it was pruned, after the masks are
            final.

    Raises:
        TypeError: for a subclassed model.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1)])
        >>> kernel = np.float32([[1, 0, 2], [3, 0, 4]])
        >>> model.get_layer("a").set_weights([kernel, np.zeros(3, "float32")])
        >>> remove_dead_units(model).get_layer("a").units
        2
    """
    while True:
        graph = flatten(model)
        kept: dict[int, np.ndarray] = {}
        biases: dict[int, np.ndarray] = {}
        read = set()  # one chain at a time around a layer: the next round sees what this one left
        for chain in chains(graph):
            if id(chain.producer.operation) in read:
                continue
            keep, bias = _survivors(chain)
            if keep.all():
                continue
            kept[id(chain.producer.operation)] = keep
            biases[id(chain.reader.operation)] = bias
            read.add(id(chain.reader.operation))
            for node in chain.passing:
                kept[id(node.operation)] = keep
        if not kept:
            return model
        model = _without(model, graph, kept, biases)


def chains(graph: FlatGraph) -> list[Chain]:
    """Returns every pair of layers with nothing between them that mixes channels."""
    calls = Counter(id(node.operation) for node in graph.nodes)
    found = []
    for node in graph.nodes:
        if not _mixes(node):
            continue
        passing: list[Node] = []
        last = node
        while (
            len(last.outputs) == 1
            and len(last.outputs[0].consumers) == 1
            and not last.outputs[0].is_output
        ):
            last = last.outputs[0].consumers[0]
            if not isinstance(inner(last.operation), PASSING):
                break
            passing.append(last)
        nodes = [node, *passing, last]
        suits = (
            isinstance(inner(last.operation), PRODUCERS)
            and last is not node
            and getattr(inner(last.operation), "groups", 1) == 1
        )
        # A quantizer that two tensors share has one scale for all channels.
        once = all(
            calls[id(n.operation)] == 1 or isinstance(n.operation, ActivationQuantizer)
            for n in nodes
        )
        if suits and once and _same_model(nodes) and all(map(_plain, nodes)):
            found.append(Chain(node, passing, last))
    return found


def inner(operation: Any) -> Any:
    """Returns the layer that a wrapper wraps, or the operation itself."""
    return operation.layer if isinstance(operation, Quantized) else operation


def _mixes(node: Node) -> bool:
    """Returns whether every output of a layer reads every input channel."""
    layer = inner(node.operation)
    return isinstance(layer, PRODUCERS) and getattr(layer, "groups", 1) == 1


def _same_model(nodes: list[Node]) -> bool:
    return len({node.path.rpartition("/")[0] for node in nodes}) == 1


def _plain(node: Node) -> bool:
    """Returns whether channels run along the last axis and each has its place in every variable."""
    layer = inner(node.operation)
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    norm = not isinstance(layer, keras.layers.BatchNormalization) or layer.axis in (
        -1,
        len(node.inputs[0].shape) - 1,
    )
    return (
        last
        and norm
        and getattr(layer, "depth_multiplier", 1) == 1
        and None not in node.inputs[0].shape[1:]
    )


def weights_in_use(operation: Any) -> np.ndarray:
    """Returns the kernel that the forward pass computes with."""
    if not isinstance(operation, Quantized):
        return ops.convert_to_numpy(operation.kernel)
    ((kernel, variable),) = operation.kernel_pairs()
    return ops.convert_to_numpy(kernel.weights_in_use(variable))


def _survivors(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Returns which units of the producer stay, and the reader's bias without the others."""
    own, reading = weights_in_use(chain.producer.operation), weights_in_use(chain.reader.operation)
    reader = inner(chain.reader.operation)
    units = own.shape[-1]
    bias = (
        ops.convert_to_numpy(reader.bias)
        if reader.use_bias
        else np.zeros(reading.shape[-1], np.float32)
    )
    # (rest of the window, features, outputs): after Flatten several features are one unit's, unit
    # fastest.
    reading = reading.reshape(-1, units, reading.shape[-1])
    unread = ~reading.any(axis=(0, 2))
    constant = ~own.reshape(-1, units).any(axis=0)
    values, uniform = _passed(chain, constant & ~unread)
    window = getattr(reader, "padding", "valid") == "valid"
    folds = constant & uniform & (window & reader.use_bias | (values == 0))
    keep = ~(unread | folds)
    if not keep.any():
        keep[np.argmax(np.abs(reading).sum(axis=(0, 2)))] = True
    gone = ~keep & ~unread
    added = np.einsum(
        "kio,i->o", reading[:, gone].astype(np.float64), values[gone].astype(np.float64)
    )
    return keep, (bias + added).astype(np.float32) if reader.use_bias else bias


def _passed(chain: Chain, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the reader sees of every unit that is constant, and whether it is the same at
    every place.
    """
    producer = inner(chain.producer.operation)
    value = (
        ops.convert_to_numpy(producer.bias)
        if producer.use_bias
        else np.zeros(len(constant), np.float32)
    )
    places = np.ones((1, *(size or 1 for size in chain.producer.outputs[0].shape[1:])), np.float32)
    x: Any = producer.activation(
        ops.convert_to_tensor(places * np.where(constant, value, np.float32(0)))
    )
    for node in chain.passing:
        x = (
            node.operation(x, training=False)
            if _takes_training(node.operation)
            else node.operation(x)
        )
    seen = ops.convert_to_numpy(x).reshape(-1, len(constant))
    return seen[0], (seen == seen[0]).all(axis=0)


def _takes_training(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and operation._call_has_training_arg


def _without(
    model: keras.Model, graph: FlatGraph, kept: dict[int, np.ndarray], biases: dict[int, np.ndarray]
) -> keras.Model:
    """Returns the model of the units kept: `kept` by the operations they pass, new `biases` by
    their layers.
    """
    entering: dict[int, np.ndarray] = {}
    for chain in chains(graph):
        keep = kept.get(id(chain.producer.operation))
        if keep is not None and id(chain.reader.operation) in biases:
            features = weights_in_use(chain.reader.operation).shape[-2]
            entering[id(chain.reader.operation)] = np.tile(keep, features // len(keep))
    pairs: list[tuple[Any, Any]] = []
    penalties: dict[int, Any] = {}

    def replace(path: str, operation: Any) -> Any:
        new = _copy(operation, kept.get(id(operation)), penalties)
        pairs.append((operation, new))
        return new

    smaller = rebuild(model, replace)
    for old, new in pairs:
        leaving = kept.get(id(old))
        for before, after in zip(
            getattr(old, "variables", ()), getattr(new, "variables", ()), strict=True
        ):
            value = ops.convert_to_numpy(before)
            if value.shape != tuple(after.shape):
                value = _part(value, tuple(after.shape), leaving, entering.get(id(old), leaving))
            after.assign(value)
        if id(old) in biases and inner(new).use_bias:
            bias = biases[id(old)]
            inner(new).bias.assign(bias if leaving is None else bias[leaving])
    return smaller


def _part(value: np.ndarray, shape: tuple[int, ...], leaving: Any, entering: Any) -> np.ndarray:
    """Returns the part of a variable that belongs to the units kept: outputs last, inputs before
    them.
    """
    axes = {value.ndim - 1: leaving, value.ndim - 2: entering}
    for axis, size in enumerate(shape):
        if value.shape[axis] != size:
            value = np.compress(axes[axis], value, axis)
    return value


def _copy(operation: Any, keep: np.ndarray | None, penalties: dict[int, Any]) -> Any:
    """Returns a fresh operation of as many units as are kept."""
    if isinstance(operation, Quantized):
        layer = _copy(operation.layer, keep, penalties)
        return Quantized(
            layer,
            operation.quantizer,
            shared_copy(operation.regularizer, penalties),
            shared_copy(operation.prune, penalties),
            name=operation.name,
        )
    if keep is None or not isinstance(operation, PRODUCERS):
        return clone(operation)
    config = operation.get_config()
    config["units" if "units" in config else "filters"] = int(keep.sum())
    return type(operation).from_config(config)
