"""`calibrate` warns of data and grids that lose values."""

import warnings

import keras
import numpy as np
import pytest

import tfqreg as tq

layers = keras.layers


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def table_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,), name="columns"), layers.Dense(8, "relu"), layers.Dense(2)]
    )


def joined(factor: float) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    large = layers.Dense(3, name="large")(x) * factor
    return keras.Model(
        x, layers.Concatenate(name="both")([large, layers.Dense(3, name="small")(x)])
    )


def said(model: keras.Model, data: np.ndarray, batch_size: int = 64) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tq.calibrate(tq.quantize(model), data, batch_size=batch_size, verbose=0)
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


def test_sound_data():
    assert said(table_net(), normal(64, 4)) == []
    assert said(joined(1.0), normal(64, 4)) == []


def test_black_images():
    (message,) = said(table_net(), np.zeros((8, 4), np.float32))
    assert message.startswith("columns_quantizer: calibration saw one value only, 0,")
    assert "Give data like what the model will get" in message


def test_columns_of_unequal_ranges():
    (message,) = said(table_net(), normal(64, 4) * np.float32([1, 1, 5000, 1]))
    assert "3 of 4 columns (0, 1, 3) are lost" in message
    # A column that stands still is lost nothing.
    still = normal(64, 4) * np.float32([0, 0, 5000, 0])
    assert said(table_net(), still) == []


def test_a_branch_beside_much_larger_ones():
    (message,) = said(joined(1e4), normal(64, 4))
    assert "a branch from" in message and "separate outputs" in message


@pytest.mark.parametrize("factor, expected", [(1.0, 0), (10.0, 1)])
def test_halves_of_the_data(factor, expected):
    data = normal(64, 4)
    data[32:] *= factor
    messages = said(table_net(), data, batch_size=8)
    assert len(messages) == expected
    assert all("the first half" in message for message in messages)
