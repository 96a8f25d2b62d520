"""Samples in the forms in which users hold them, as batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError, ModelTypeError

_SHOWN = 5  # indices of samples in an error


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


def check_batch(data: Any, inputs: Any) -> None:
    """Raises ModelTypeError unless a batch's inputs are arrays of numbers, samples first.

    Args:
        data: what the batch comes from, for the error.
        inputs: of one batch, in the structure that the model takes.

    Example:
        >>> check_batch([1, 2], 1)
        Traceback (most recent call last):
            ...
        tfqreg.errors.ModelTypeError: `data` must be an array of inputs, a dict of them, or an \
iterable of batches. Put samples into one array. Received: a list with a batch of int
    """
    leaves = keras.tree.flatten(inputs)
    wrong = [leaf for leaf in leaves if not len(getattr(leaf, "shape", ()))]
    if wrong or not leaves:
        found = type(wrong[0] if wrong else inputs).__name__
        raise not_data(f"a {type(data).__name__} with a batch of {found}")


def not_data(received: str) -> ModelTypeError:
    """Returns the error for an argument `data` that holds no batches."""
    return ModelTypeError(
        "",
        "`data` must be an array of inputs, a dict of them, or an iterable of batches",
        "Put samples into one array",
        received,
    )


@contextmanager
def takes(model: keras.Model, inputs: Any) -> Iterator[None]:
    """Makes Keras' words about inputs that do not fit ones about the argument `data`."""
    try:
        yield
    except ModelError:
        raise
    except (TypeError, ValueError) as error:
        expected = {x.name: tuple(x.shape) for x in keras.tree.flatten(model.inputs or [])}
        shapes = [tuple(x.shape) for x in keras.tree.flatten(inputs)]
        raise ModelError(
            model.name,
            f"a batch of `data` has not the shape of its inputs, {expected}",
            "Give arrays of these shapes, samples first",
            f"{', '.join(map(str, shapes))} ({str(error).splitlines()[0]})",
        ) from error


def broken_samples(x: Any, first: int = 0) -> str:
    """Returns which samples hold NaN or infinity, in words; empty if none does.

    Args:
        x: an array, samples first.
        first: the index of its first sample; 0 by default.

    Example:
        >>> broken_samples(np.array([[0.0, 1.0], [np.nan, np.inf], [2.0, 2.0]]), first=4)
        '1 of 3 samples: index 5'
    """
    x = keras.ops.convert_to_numpy(x)
    if x.dtype.kind != "f":
        return ""
    sound = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    broken = np.flatnonzero(~sound) + first
    if not len(broken):
        return ""
    more = ", ..." if len(broken) > _SHOWN else ""
    return f"{len(broken)} of {len(x)} samples: index {', '.join(map(str, broken[:_SHOWN]))}{more}"


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
