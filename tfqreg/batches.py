"""Samples in the forms in which users hold them, as batches of a model's inputs.

`samples_for` opens what holds them, `batches_of` cuts them, `inputs_of` takes a model's inputs out
of one batch, and `gathered` joins batches of one sample.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError, listed
from tfqreg.graph.ends import input_names, inputs_of_graph

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
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
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
    return f"{len(broken)} of {len(x)} samples: index {listed(broken, _SHOWN)}"


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


def samples_for(model: keras.Model, data: Any) -> Any:
    """Returns `data` as `batches_of` takes it.

    A function is called; a list or tuple of one array for each of several inputs becomes a dict.

    Raises:
        ModelError: for a dataset that repeats without end, or nothing that holds batches.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> def representative_dataset():
        ...     yield [np.zeros((1, 2), "float32")]
        >>> next(samples_for(model, representative_dataset))
        [array([[0., 0.]], dtype=float32)]
    """
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    names = input_names(model)
    if isinstance(data, list | tuple) and len(names) > 1 and all(map(_is_tensor, data)):
        return dict(zip(names, _one_each(data, names), strict=True))
    cardinality: Any = getattr(data, "cardinality", None)
    endless = cardinality is not None and int(cardinality()) == -1
    if endless or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise ModelError(
            "data",
            "it is an array, or gives batches and comes to an end",
            "Take some of it: dataset.take(100)" if endless else "Give a list, or a generator",
            f"{type(data).__name__}{' that repeats without end' * endless}",
        )
    return data


def inputs_of(model: keras.Model, batch: Any) -> Any:
    """Returns a model's inputs in one batch, in the structure that the model has.

    Args:
        model: tells how many inputs there are, their names and shapes.
        batch: an array; a dict by name; or a list or tuple of arrays in the model's order, or of
            all inputs in one, and what follows them are labels. torch's tensors are arrays too.

    Raises:
        ModelError: for inputs that are missing or of another shape than the model's.

    Example:
        >>> model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])
        >>> x, y = np.ones((1, 2)), np.zeros((1, 1))
        >>> [inputs_of(model, b).tolist() for b in (x, [x], (x, y), {"x": x, "label": y})]
        [[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]]
    """
    names = input_names(model)
    if not names:  # a subclassed model says nothing of its inputs
        return keras.utils.unpack_x_y_sample_weight(batch)[0]
    if isinstance(batch, list | tuple) and batch and isinstance(batch[0], list | tuple | dict):
        return inputs_of(model, batch[0])
    arrays = _by_name(model, batch) if isinstance(batch, dict) else _one_each(batch, names)
    structure = inputs_of_graph(model)
    arrays = [
        _checked(_array(array), name, tuple(tensor.shape))
        for array, name, tensor in zip(arrays, names, keras.tree.flatten(structure), strict=True)
    ]
    return keras.tree.pack_sequence_as(structure, arrays)


def gathered(batches: Iterable[Any], batch_size: int) -> Iterator[Any]:
    """Joins batches of one sample, of which TFLite's representative datasets are made.

    Args:
        batches: inputs as `inputs_of` gives them.
        batch_size: samples to join.

    Example:
        >>> [batch.shape for batch in gathered([np.zeros((1, 2))] * 5, batch_size=4)]
        [(4, 2), (1, 2)]
    """
    waiting: list[Any] = []

    def joined() -> Any:
        parts = waiting.copy()
        waiting.clear()
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

    for batch in batches:
        single = all(getattr(x, "shape", ())[:1] == (1,) for x in keras.tree.flatten(batch))
        if waiting and not (single and _shapes(batch) == _shapes(waiting[0])):
            yield joined()
        if not single:
            yield batch
            continue
        waiting.append(batch)
        if len(waiting) == batch_size:
            yield joined()
    if waiting:
        yield joined()


def _shapes(batch: Any) -> list[Any]:
    return [x.shape for x in keras.tree.flatten(batch)]


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "shape")


def _array(x: Any) -> np.ndarray:
    """Returns a tensor of any library as an array."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def _one_each(batch: Any, names: list[str]) -> list[Any]:
    """Returns the first arrays of a batch, one for each input."""
    arrays = list(batch) if isinstance(batch, list | tuple) else [batch]
    if len(arrays) < len(names):
        raise ModelError(
            "data",
            f"a batch holds one array for each input: {', '.join(names)}",
            "Give [first, second] in this order, or a dict by name",
            f"{len(arrays)} {'array' if len(arrays) == 1 else 'arrays'}",
        )
    return arrays[: len(names)]


def _by_name(model: keras.Model, batch: dict[str, Any]) -> list[Any]:
    """Returns the arrays of a dict in the order of the model's inputs."""
    names = input_names(model)
    if set(names) <= set(batch):
        return [batch[name] for name in names]
    if len(names) == len(batch) == 1:
        return list(batch.values())
    raise ModelError(
        "data",
        f"a batch that is a dict has the inputs' names: {', '.join(names)}",
        received=", ".join(map(str, batch)) or "an empty dict",
    )


def _checked(array: np.ndarray, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Raises ModelError for an array whose shape Keras would not take."""
    forms = [array.shape, (*array.shape, 1)]  # Keras adds or drops a last axis of 1
    if array.shape[-1:] == (1,):
        forms.append(array.shape[:-1])
    wanted = (None, *shape[1:])
    if any(_fits(form, wanted) for form in forms):
        return array
    unbatched = _fits((1, *array.shape), wanted)
    raise ModelError(
        name,
        f"inputs are of the shape (batch, {', '.join(str(n or 'any') for n in shape[1:])})",
        "Give batches: x[None] of one sample, dataset.batch(32) of a dataset" if unbatched else "",
        f"shape {array.shape}",
    )


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (None, size) for size, want in zip(shape, wanted, strict=True)
    )
