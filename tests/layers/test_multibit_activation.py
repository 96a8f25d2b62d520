"""MultiBitActivation: the nearest of uneven levels, least squares, then running averages."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqreg as tq
from tests.tiny_nets import dense_net, gradients
from tfqreg.export import check, export_tflite
from tfqreg.layers.multibit_activation import MOMENTUM, MultiBitActivation, fit_levels
from tfqreg.layers.queries import activation_layers


def some(size: int = 4000, seed: int = 0) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).normal(0.5, 1.0, size), 0.0).astype(np.float32)


def levels_of(reference: float, coordinates: np.ndarray) -> np.ndarray:
    return np.array(
        [
            reference + np.dot(s, coordinates)
            for s in itertools.product((-1, 1), repeat=len(coordinates))
        ]
    )


@pytest.mark.parametrize("bits", range(1, 5))
def test_every_element_takes_the_nearest_level(bits):
    layer, x = MultiBitActivation(bits), np.linspace(-2, 4, 4001, dtype=np.float32)
    layer.assign_levels(0.9, 0.5 ** np.arange(bits))
    levels = levels_of(0.9, 0.5 ** np.arange(bits))
    found = np.asarray(layer(x[None]))[0]
    np.testing.assert_allclose(np.abs(found - x), np.abs(levels - x[:, None]).min(1), atol=1e-6)
    assert len(np.unique(found.round(5))) == 2**bits


def test_the_gradient_passes_between_the_lowest_and_the_highest_level():
    layer, x = MultiBitActivation(2), np.linspace(-1, 4, 2001, dtype=np.float32)
    layer.assign_levels(1.0, [0.5, 0.25])
    (in_x,) = gradients(lambda x: tf.reduce_sum(layer(x)), x[None])
    away = np.abs(np.abs(x - 1.0) - 0.75) > 1e-3
    np.testing.assert_array_equal(in_x[0][away], (np.abs(x - 1.0) < 0.75).astype(np.float32)[away])


def test_a_fit_is_least_squares_and_never_raises_the_error():
    x, levels = some(), (np.float32(0.5), np.float32([0.8, 0.3]))

    def error(reference, coordinates):
        return np.square(levels_of(reference, coordinates) - x[:, None]).min(1).mean()

    errors = [error(*levels)]
    for _ in range(6):
        levels = tuple(
            np.asarray(part) for part in fit_levels(x, *map(keras.ops.convert_to_tensor, levels))
        )
        errors.append(error(*levels))
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.75 * errors[0]


def test_first_levels_are_better_than_as_many_even_ones():
    x = some()
    tensor = keras.ops.convert_to_tensor(x[None])
    scale, low = (
        float(value) for value in tq.QuantizedActivation(2, signed=False).fit_grid(tensor)
    )
    even = np.square(scale * np.clip(np.round(x / scale), low, low + 3) - x).mean()
    levels = levels_of(*map(np.asarray, MultiBitActivation(2).first_levels(tensor)))
    assert np.square(levels - x[:, None]).min(1).mean() < even


def test_levels_start_from_the_first_batch_and_follow_by_running_averages():
    layer, x, later = MultiBitActivation(2), some()[None], some(seed=1)[None] + 1.0
    np.testing.assert_array_equal(layer(x), x)
    layer(x, training=True)
    first = [np.asarray(v) for v in layer.first_levels(keras.ops.convert_to_tensor(x))]
    for value, variable in zip(first, (layer.reference, layer.coordinates), strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-6)
    layer(later, training=True)
    for old, new, variable in zip(
        first, fit_levels(later, *first), (layer.reference, layer.coordinates), strict=True
    ):
        np.testing.assert_allclose(
            variable, MOMENTUM * old + (1 - MOMENTUM) * np.asarray(new), rtol=1e-5
        )
    assert not layer.trainable_variables and layer.losses == []


def test_equal_activations_do_no_harm():
    layer = MultiBitActivation(2)
    layer(np.zeros((4, 8), np.float32), training=True)
    np.testing.assert_allclose(layer(np.zeros((4, 8), np.float32)), 0.0, atol=1e-6)


@pytest.mark.long
def test_it_trains_saves_and_calibrates(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    q = tq.calibrate(tq.quantize(dense_net(), activations=tq.MultiBitRange()), x, verbose=0)
    layer = next(layer for layer in activation_layers(q) if isinstance(layer, MultiBitActivation))
    calibrated = np.asarray(layer.coordinates)
    assert (calibrated > 0).all()
    q.compile("adam", "mse")
    q.fit(x, x[:, :1], batch_size=24, verbose=0)  # batches of 24 and of 16: their size is unknown
    assert (np.asarray(layer.coordinates) != calibrated).all()
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), q.predict(x, verbose=0))
    assert MultiBitActivation.from_config(MultiBitActivation(3).get_config()).bits == 3


def test_the_export_names_the_layer_and_the_remedy(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    q = tq.calibrate(tq.quantize(dense_net(), activations=tq.MultiBitRange()), x, verbose=0)
    with pytest.raises(
        ValueError, match="body_quantizer: multi-bit activations lie on no integer grid"
    ):
        export_tflite(q, tmp_path / "q.tflite")
    assert not (tmp_path / "q.tflite").exists()
    assert "body_quantizer" in str(check(q)) and "activations=2" in str(check(q))


def test_variables_as_the_first_releases_stored_them():
    """log2_scale, base_scale (1 once there are levels), low, reference, coordinates."""
    layer = MultiBitActivation(2)
    store = {"0": 0.0, "1": 1.0, "2": 0.0, "3": 0.9, "4": [0.5, 0.25]}
    layer.load_own_variables({key: np.float32(value) for key, value in store.items()})
    assert bool(layer.has_levels)
    np.testing.assert_allclose(
        np.unique(layer(np.float32([[-2.0, 0.4, 1.0, 4.0]]))), [0.15, 0.65, 1.15, 1.65], rtol=1e-6
    )
