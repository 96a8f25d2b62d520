"""Samples in the forms in which users hold them, as batches."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def is_array(data: Any) -> bool:
    """Returns whether `data` is one array of samples, or a dict of such, and no batches.

    Example:
        >>> is_array(np.zeros((8, 2))), is_array([np.zeros((4, 2)), np.zeros((4, 2))])
        (True, False)
    """
    return hasattr(data, "shape") or isinstance(data, dict)


def batches_of(data: Any, batch_size: int, shuffle_seed: int | None = None) -> Iterable[Any]:
    """Returns the batches of an array or a dict of arrays; an iterable of batches as it is.

    Args:
        data: an array, a dict of arrays, or an iterable of batches.
        batch_size: samples per batch of an array; the last batch may have fewer.
        shuffle_seed: shuffles an array's samples; None, the default, keeps their order.

    Example:
        >>> [batch.tolist() for batch in batches_of(np.arange(5), batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """
    if not is_array(data):
        return data
    size = len(keras.tree.flatten(data)[0])
    order = (
        np.arange(size)
        if shuffle_seed is None
        else np.random.default_rng(shuffle_seed).permutation(size)
    )
    parts = [order[i : i + batch_size] for i in range(0, size, batch_size)]
    return (
        keras.tree.map_structure(lambda x, part=part: np.asarray(x)[part], data) for part in parts
    )


def count_batches(data: Any, batch_size: int) -> int | None:
    """Returns how many batches `batches_of` gives, None if only running through them would say.

    Example:
        >>> count_batches(np.arange(5), batch_size=2), count_batches(iter([]), batch_size=2)
        (3, None)
    """
    if is_array(data):
        return -(-len(keras.tree.flatten(data)[0]) // batch_size)
    try:
        return len(data)
    except TypeError:
        return None
