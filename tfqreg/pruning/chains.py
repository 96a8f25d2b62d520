"""Where a model can lose units: a layer, what its channels pass, and the layer that reads them.

    producer -> passing, passing, ... -> reader
    conv     -> BatchNormalization, ReLU, pool, Flatten -> dense

Between the two nothing mixes channels, so a unit of the producer is one channel of everything that
follows, and some rows of the reader's kernel. Left alone are branches, layers called twice, grouped
convolutions and channels-first layers.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.flat import FlatGraph, Node
from tfqreg.layers import ActivationQuantizer, Quantized

PRODUCERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
# What stands between two layers and keeps each channel for itself.
PASSING = (
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
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


def chains(graph: FlatGraph) -> list[Chain]:
    """Returns every chain of a graph; the reader of one may be the producer of the next.

    Example:
        >>> from tfqreg.graph.flat import flatten
        >>> names = ("a", "b", "c")
        >>> dense = [keras.layers.Dense(2, activation="relu", name=name) for name in names]
        >>> found = chains(flatten(keras.Sequential([keras.Input((4,)), *dense])))
        >>> [(chain.producer.path, chain.reader.path) for chain in found]
        [('a', 'b'), ('b', 'c')]
    """
    calls = Counter(id(node.operation) for node in graph.nodes)
    found = (_chain_from(node) for node in graph.nodes if _mixes(node))
    return [chain for chain in found if chain is not None and _can_shrink(chain, calls)]


def inner(operation: Any) -> Any:
    """Returns the layer that a wrapper wraps, or the operation itself."""
    return operation.layer if isinstance(operation, Quantized) else operation


def weights_in_use(operation: Any) -> np.ndarray:
    """Returns the kernel that the forward pass computes with."""
    if not isinstance(operation, Quantized):
        return ops.convert_to_numpy(operation.kernel)
    ((quantized_kernel, weights),) = operation.kernel_pairs()
    return ops.convert_to_numpy(quantized_kernel.weights_in_use(weights))


def _chain_from(producer: Node) -> Chain | None:
    """Returns the chain that begins with a layer, None if something else reads its channels."""
    passing: list[Node] = []
    node = producer
    while (reader := _only_reader(node)) is not None:
        if not isinstance(inner(reader.operation), PASSING):
            return Chain(producer, passing, reader) if _mixes(reader) else None
        passing.append(reader)
        node = reader
    return None


def _only_reader(node: Node) -> Node | None:
    if len(node.outputs) != 1 or node.outputs[0].is_output:
        return None
    consumers = node.outputs[0].consumers
    return consumers[0] if len(consumers) == 1 else None


def _mixes(node: Node) -> bool:
    """Returns whether every output of a layer reads every input channel."""
    layer = inner(node.operation)
    return isinstance(layer, PRODUCERS) and getattr(layer, "groups", 1) == 1


def _can_shrink(chain: Chain, calls: Counter[int]) -> bool:
    nodes = [chain.producer, *chain.passing, chain.reader]
    # A quantizer that two tensors share has one scale for all channels.
    called_once = all(
        calls[id(node.operation)] == 1 or isinstance(node.operation, ActivationQuantizer)
        for node in nodes
    )
    models = {node.path.rpartition("/")[0] for node in nodes}
    return called_once and len(models) == 1 and all(map(_has_plain_channels, nodes))


def _has_plain_channels(node: Node) -> bool:
    """Returns whether channels run along the last axis and each has its place in every variable."""
    layer, shape = inner(node.operation), node.inputs[0].shape
    norm = isinstance(layer, keras.layers.BatchNormalization)
    return (
        getattr(layer, "data_format", "channels_last") == "channels_last"
        and (not norm or layer.axis in (-1, len(shape) - 1))
        and getattr(layer, "depth_multiplier", 1) == 1
        and None not in shape[1:]
    )
