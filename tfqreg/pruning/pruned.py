"""Which kernels of a model one object prunes together."""

from typing import TypeAlias

import keras

from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.regularizers import Pruning

Pair: TypeAlias = tuple[QuantizedKernel, keras.Variable]
Group: TypeAlias = tuple[Pruning, list[Pair]]


def pruned_together(pairs: list[Pair]) -> list[Group]:
    """Returns every object that prunes with the kernels it prunes, in the order of the kernels.

    Args:
        pairs: quantized kernels, each with its float weights; those that nothing prunes are left
            out.

    Example:
        >>> import tfqreg as tq
        >>> from tfqreg.layers.queries import kernel_pairs
        >>> dense = [keras.layers.Dense(2, name=name) for name in ("a", "b", "c")]
        >>> model = keras.Sequential([keras.Input((4,)), *dense])
        >>> both = tq.PartialL2(0.5)
        >>> rules = [tq.Rule("a|b", prune=both), tq.Rule("c", prune=tq.PartialL2(0.8))]
        >>> groups = pruned_together(kernel_pairs(tq.quantize(model, rules)))
        >>> [(prune.sparsity, len(pairs)) for prune, pairs in groups]
        [(0.5, 2), (0.8, 1)]
    """
    groups: dict[int, Group] = {}
    for pair in pairs:
        prune = pair[0].prune
        if prune is not None:
            groups.setdefault(id(prune), (prune, []))[1].append(pair)
    return list(groups.values())
