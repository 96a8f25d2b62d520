"""`drop_weak_units`: a narrower model, without the units that carry least per weight they take."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.graph.flat import clone, flatten, rebuild, set_weights_of
from tfqreg.pruning.chains import Chain, chains, inner, weights_in_use
from tfqreg.pruning.dead_units import remove_dead_units


@dataclass
class _Units:
    """The units of one chain's producer: which stay, and what each carries."""

    chain: Chain
    stays: np.ndarray
    carried: np.ndarray


def drop_weak_units(model: keras.Model, keep: float) -> keras.Model:
    """Returns a copy with fewer units and channels, about `keep` of the weights; train it then.

    One unit after another goes, the one of the least

        (|own weights| |weights that read it| / the sum of that over the units of its layer)^2 /
        weights it takes

    The product of norms stays when a unit's scale moves from one layer to the next. Which layers
    can lose units is said at `remove_dead_units`; a layer keeps one at least.

    Args:
        model: a float model, Functional or Sequential.
        keep: fraction of the weights of all layers together to keep, 0 < keep <= 1.

    Raises:
        ModelTypeError: for a subclassed model.
        ModelError: for a fraction out of range.

    Example:
        >>> import keras
        >>> a, b = keras.layers.Dense(8, name="a"), keras.layers.Dense(2, name="b")
        >>> model = keras.Sequential([keras.Input((4,)), a, b])
        >>> drop_weak_units(model, 0.5).get_layer("a").units
        4
    """
    if not 0.0 < keep <= 1.0:
        raise ModelError(
            "drop_weak_units",
            "`keep` is a fraction of the weights, 0 < keep <= 1",
            received=f"keep={keep!r}",
        )
    copies: list[tuple[Any, Any]] = []

    def copied(path: str, operation: Any) -> Any:
        copies.append((operation, clone(operation)))
        return copies[-1][1]

    copy = rebuild(model, copied)
    set_weights_of(copies)
    groups = [_units(chain) for chain in chains(flatten(copy))]
    layers = {
        id(c.operation): c.operation for g in groups for c in (g.chain.producer, g.chain.reader)
    }
    sizes = {key: float(weights_in_use(layer).size) for key, layer in layers.items()}
    limit = keep * sum(sizes.values())
    while sum((live := _live(groups, sizes)).values()) > limit:
        worths = [_worths(group, live) for group in groups]
        weakest = min(range(len(groups)), key=lambda i: worths[i].min())
        if not np.isfinite(worths[weakest].min()):
            break
        groups[weakest].stays[worths[weakest].argmin()] = False
    for group in groups:
        kernel = inner(group.chain.reader.operation).kernel
        shape = ops.convert_to_numpy(kernel).shape
        gone = np.tile(~group.stays, shape[-2] // len(group.stays))
        kernel.assign(np.where(gone[:, None], 0.0, ops.convert_to_numpy(kernel)))
    return remove_dead_units(copy)


def _units(chain: Chain) -> _Units:
    own, reading = weights_in_use(chain.producer.operation), weights_in_use(chain.reader.operation)
    units = own.shape[-1]
    written = np.sqrt(np.square(own.reshape(-1, units)).sum(axis=0))
    read = np.sqrt(np.square(reading.reshape(-1, units, reading.shape[-1])).sum(axis=(0, 2)))
    return _Units(chain, np.ones(units, bool), written * read)


def _live(groups: list[_Units], sizes: dict[int, float]) -> dict[int, float]:
    """Returns the weights that every layer would have left."""
    live = dict(sizes)
    for group in groups:
        for node in (group.chain.producer, group.chain.reader):
            live[id(node.operation)] *= group.stays.mean()
    return live


def _worths(group: _Units, live: dict[int, float]) -> np.ndarray:
    """Returns what every unit carries per weight, infinity if it is gone or the last."""
    staying = group.stays.sum()
    if staying <= 1:
        return np.full(len(group.stays), np.inf)
    weights = (
        sum(live[id(node.operation)] for node in (group.chain.producer, group.chain.reader))
        / staying
    )
    carried = group.carried / max(group.carried[group.stays].sum(), 1e-30)
    return np.where(group.stays, np.square(carried) / weights, np.inf)
