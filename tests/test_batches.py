"""Calibration data in every form in which people hold it: the same grids, or an error by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqreg as tq
from tfqreg.batches import batches_of, gathered, inputs_of, samples_for
from tfqreg.errors import ModelError

RNG = np.random.default_rng(0)
X, X2 = RNG.random((20, 8), np.float32), 3 * RNG.random((20, 5), np.float32)
Y = np.zeros(20, np.float32)


def one_input() -> keras.Model:
    return keras.Sequential([keras.Input((8,), name="b"), keras.layers.Dense(3)])


def two_inputs(as_dict: bool = False) -> keras.Model:
    # Not in the order of the alphabet, in which Keras keeps dicts.
    b, a = keras.Input((8,), name="b"), keras.Input((5,), name="a")
    y = keras.layers.Dense(3)(keras.layers.Concatenate()([b, a]))
    return keras.Model({"b": b, "a": a} if as_dict else [b, a], y)


class Tensor:
    """A tensor of torch, as far as it counts: an array only once it is detached and on the CPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> np.ndarray:
        return self.array


class Loader:
    """Batches as torch's DataLoader and grain give them: lists, anew at every run."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays

    def __iter__(self):
        for start in range(0, 20, 4):
            yield [Tensor(array[start : start + 4]) for array in self.arrays]


class Dataset(keras.utils.PyDataset):
    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__()
        self.arrays = arrays

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int):
        return tuple(array[4 * index : 4 * index + 4] for array in self.arrays), Y[:4]


def representative():
    for v in X:
        yield [v[None]]


def representative_of_two():
    for v, w in zip(X, X2, strict=True):
        yield [v[None], w[None]]


def representative_by_name():
    for v, w in zip(X, X2, strict=True):
        yield {"b": v[None], "a": w[None]}


def tf_data(*arrays, batch: int = 4) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays[0] if len(arrays) == 1 else arrays).batch(
        batch
    )


ONE = {
    "array": lambda: X,
    "function": lambda: representative,
    "its generator": representative,
    "tuples of one": lambda: ((v[None],) for v in X),
    "dicts": lambda: ({"b": v[None]} for v in X),
    "dicts with labels": lambda: ({"label": v[:1], "b": v[None]} for v in X),
    "dicts by another name": lambda: ({"anything": v[None]} for v in X),
    "a list of batches": lambda: [X[:4], X[4:]],
    "tf.data": lambda: tf_data(X),
    "tf.data, labels": lambda: tf_data(X, Y),
    "tf.data by ones": lambda: lambda: ([v] for v in tf_data(X, batch=1).take(20)),
    "a loader of torch": lambda: Loader(X),
    "a loader of torch, labels": lambda: Loader(X, Y),
    "PyDataset": lambda: Dataset(X),
}
TWO = {
    "dict": lambda: {"b": X, "a": X2},
    "list of arrays": lambda: [X, X2],
    "tuple of arrays": lambda: (X, X2),
    "function": lambda: representative_of_two,
    "function by name": lambda: representative_by_name,
    "tf.data": lambda: tf_data(X, X2),
    "tf.data, labels": lambda: tf_data((X, X2), Y),
    "tf.data of dicts, labels": lambda: tf_data({"b": X, "a": X2}, Y),
    "without labels, nested": lambda: [((X, X2),)],
    "a loader of torch": lambda: Loader(X, X2, Y),
    "PyDataset": lambda: Dataset(X, X2),
}


def grids(model: keras.Model, data) -> list[tuple[float, int]]:
    # The corrections of biases depend on how samples are cut into batches.
    q = tq.calibrate(tq.quantize(model), data, correct_bias=False, verbose=0)
    return [layer.encode() for layer in q.layers if isinstance(layer, tq.QuantizedActivation)]


def assert_same(found: list[tuple[float, int]], expected: list[tuple[float, int]]) -> None:
    assert [low for _, low in found] == [low for _, low in expected]
    # A product of matrices adds in an order that depends on the batch.
    np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], rtol=1e-6)


@pytest.mark.parametrize("form", ONE)
def test_one_input(form):
    model = one_input()
    assert_same(grids(model, ONE[form]()), grids(model, X))


@pytest.mark.parametrize("form", TWO)
def test_two_inputs(form):
    model = two_inputs()
    assert_same(grids(model, TWO[form]()), grids(model, {"b": X, "a": X2}))


def test_two_inputs_that_are_a_dict():
    model = two_inputs(as_dict=True)
    assert {name: x.shape for name, x in inputs_of(model, {"b": X, "a": X2, "y": Y}).items()} == {
        "b": (20, 8),
        "a": (20, 5),
    }
    assert_same(grids(model, representative_by_name)[:1], grids(two_inputs(), [X, X2])[:1])


def test_batches_of_one_sample_are_joined_and_others_are_not():
    sizes = [1, 1, 1, 5, 1, 2, 1]
    parts = [[np.full((n, 2), i), np.full((n, 3), i)] for i, n in enumerate(sizes)]
    joined = list(gathered(parts, 2))
    assert [len(first) for first, _ in joined] == [2, 1, 5, 1, 2, 1]
    assert [second[:, 0].tolist() for _, second in joined[:2]] == [[0, 1], [2]]


def test_samples_of_other_sizes_are_not_joined():
    open_sizes = [np.zeros((1, n, n, 3)) for n in (4, 4, 6)]
    assert [len(x) for x in gathered(open_sizes, 64)] == [2, 1]


def test_images_without_an_axis_of_channels_are_taken_as_keras_takes_them():
    layers = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    images = RNG.random((6, 4, 4, 1), np.float32)
    model = keras.Sequential(layers)
    assert grids(model, images[..., 0]) == grids(model, images)


@pytest.mark.parametrize(
    "model, data, message",
    [
        (
            one_input,
            list(X),
            r"^b: inputs are of the shape \(batch, 8\)\. Give batches: x\[None\] of one sample, "
            r"dataset\.batch\(32\) of a dataset\. Received: shape \(8,\)$",
        ),
        (one_input, X[0], r"^b: inputs are of the shape \(batch, 8\)\. .*Received: shape \(8,\)"),
        (one_input, X2, r"^b: inputs are of the shape \(batch, 8\)\. Received: shape \(20, 5\)"),
        (
            two_inputs,
            X,
            r"^data: a batch holds one array for each input: b, a\. Give \[first, second\] in this "
            r"order, or a dict by name\. Received: 1 array$",
        ),
        (two_inputs, [X2, X], r"^b: inputs are of the shape \(batch, 8\)\. Received"),
        (
            two_inputs,
            {"b": X, "c": X2},
            r"^data: a batch that is a dict has the inputs' names: b, a\. Received: b, c$",
        ),
        (one_input, None, r"^data: it is an array, or gives batches .* Received: NoneType$"),
        (
            one_input,
            tf_data(X).repeat(),
            r"^data: .* comes to an end\. Take some of it: dataset\.take\(100\)\. Received: "
            r"\w+ that repeats without end$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model, data, message):
    with pytest.raises(ModelError, match=message):
        tq.calibrate(tq.quantize(model()), data, verbose=0)


def test_a_distillation_takes_the_same_forms():
    teacher = two_inputs()
    q = tq.calibrate(tq.quantize(teacher), representative_of_two, verbose=0)
    for data in ([X, X2], {"b": X, "a": X2}, tf_data((X, X2), Y)):
        history = tq.distill(q, teacher, data, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
    # A function is called anew for every epoch.
    tq.distill(q, teacher, representative_of_two, epochs=2, steps_per_epoch=20, verbose=0)


def test_arrays_are_cut_and_what_gives_batches_is_not():
    model = two_inputs()
    samples = samples_for(model, [X, X2])
    assert [len(inputs_of(model, b)[1]) for b in batches_of(samples, 8)] == [8, 8, 4]
    assert batches_of(data := [X], 8) is data
