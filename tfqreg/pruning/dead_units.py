"""`remove_dead_units`: units and channels that compute nothing leave the model.

A unit is dead if no weight reads it, or if none of its own weights is left. What it gives in the
second case is a constant, which the bias of the layer that reads it takes over,

    b' = b + sum over the kernel's window of w * constant

so that the outputs stay the same. A unit that leaves may leave another one unread, before it or
after it: rounds go on until nothing is dead.

    remove_dead_units    a round: look at every chain, then build the model without what is dead
      chains             which layers can lose units (tfqreg.pruning.chains)
      _survivors         which units of a chain's producer stay, and the reader's new bias
        _seen_constants  what the reader sees of a unit without weights, by running what is between
      _without           the model of the units kept, with their weights, masks and scales
        _copy            an operation of as many units
        _part            the part of one variable
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.flat import FlatGraph, clone, flatten, rebuild
from tfqreg.layers import Quantized
from tfqreg.pruning.chains import PRODUCERS, Chain, chains, inner, weights_in_use
from tfqreg.regularizers.penalty import shared_copy


def remove_dead_units(model: keras.Model) -> keras.Model:
    """Returns a copy of a model without its dead units and channels; its outputs are the same.

    Weights, masks, scales, coefficients and stages of the survivors are kept, so that training goes
    on (compile anew) and export follows. Between a dense layer or convolution and the next,
    activations, quantizers, pooling, Flatten, BatchNormalization, Dropout and depthwise
    convolutions may stand. All else is left alone: branches, layers called twice, grouped
    convolutions, and constants that no bias can take over.

    Args:
        model: Functional or Sequential, wrapped or not; if it is pruned, with final masks.

    Raises:
        ModelTypeError: for a subclassed model.

    Example:
        >>> import keras, numpy as np
        >>> a, b = keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")
        >>> model = keras.Sequential([keras.Input((2,)), a, b])
        >>> kernel = np.float32([[1, 0, 2], [3, 0, 4]])
        >>> model.get_layer("a").set_weights([kernel, np.zeros(3, "float32")])
        >>> remove_dead_units(model).get_layer("a").units
        2
    """
    while True:
        graph = flatten(model)
        kept: dict[int, np.ndarray] = {}
        biases: dict[int, np.ndarray] = {}
        read = set()  # layers that lose inputs; as producers they wait for the next round
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


def _survivors(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Returns which units of the producer stay, and the reader's bias without the others."""
    own, reading = weights_in_use(chain.producer.operation), weights_in_use(chain.reader.operation)
    reader = inner(chain.reader.operation)
    units = own.shape[-1]
    bias = _bias(reader, reading.shape[-1])
    # (places, units, outputs): after Flatten the places of a map are rows as those of a window are.
    reading = reading.reshape(-1, units, reading.shape[-1])
    unread = ~reading.any(axis=(0, 2))
    constant = ~own.reshape(-1, units).any(axis=0)
    values, uniform = _seen_constants(chain, constant & ~unread)
    # With padding the border of an output sees zeros beside the constant, so no one bias suits.
    whole_window = getattr(reader, "padding", "valid") == "valid"
    folds = constant & uniform & (whole_window & reader.use_bias | (values == 0))
    keep = ~(unread | folds)
    if not keep.any():
        keep[np.argmax(np.abs(reading).sum(axis=(0, 2)))] = True
    gone = ~keep & ~unread
    added = np.einsum(
        "kio,i->o", reading[:, gone].astype(np.float64), values[gone].astype(np.float64)
    )
    return keep, (bias + added).astype(np.float32) if reader.use_bias else bias


def _seen_constants(chain: Chain, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the reader sees of constant units, and whether that is one value everywhere."""
    producer = inner(chain.producer.operation)
    value = np.where(constant, _bias(producer, len(constant)), np.float32(0))
    places = np.ones((1, *(size or 1 for size in chain.producer.outputs[0].shape[1:])), np.float32)
    x: Any = producer.activation(ops.convert_to_tensor(places * value))
    for node in chain.passing:
        inference = {"training": False} if _takes_training(node.operation) else {}
        x = node.operation(x, **inference)
    seen = ops.convert_to_numpy(x).reshape(-1, len(constant))
    return seen[0], (seen == seen[0]).all(axis=0)


def _bias(layer: Any, size: int) -> np.ndarray:
    return ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(size, np.float32)


def _takes_training(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and operation._call_has_training_arg


def _without(
    model: keras.Model, graph: FlatGraph, kept: dict[int, np.ndarray], biases: dict[int, np.ndarray]
) -> keras.Model:
    """Returns the model of the units kept.

    Args:
        model: the model to make smaller.
        graph: its flat graph.
        kept: the units that stay, by the id of each operation that they leave or pass.
        biases: new biases, by the ids of the layers that read fewer units.
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
    """Returns the part of a variable for the units kept: outputs along its last axis."""
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
