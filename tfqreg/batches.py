"""Images in the forms users hold them, as batches."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def is_array(data: Any) -> bool:
    """Returns whether `data` is one array of samples, or a dict of such, rather than an iterable of
    batches.
    """
    return hasattr(data, "shape") or isinstance(data, dict)


def batches_of(data: Any, batch_size: int, shuffle_seed: int | None = None) -> Iterable[Any]:
    """Returns the batches of an array or a dict of arrays; an iterable of batches as it is.

    Args:
        data: an array, a dict of arrays, or an iterable of batches.
        batch_size: samples a batch of an array; the last may have fewer.
        shuffle_seed: shuffles an array's samples; None keeps their order.
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
    """Returns the number of `batches_of(data, batch_size)`, None where only running through them
    would tell.
    """
    if is_array(data):
        return -(-len(keras.tree.flatten(data)[0]) // batch_size)
    try:
        return len(data)
    except TypeError:
        return None
