"""BitsBudget: a container of the bytes that were asked for, and what it says if it cannot be."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tfqreg.export import container_size


def wide_net() -> keras.Model:
    """16 -> 96 relu -> 96 relu -> 1: enough weights that bits count beside the graph."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,), name="features")
    x = layers.Dense(96, activation="relu", name="first")(inputs)
    x = layers.Dense(96, activation="relu", name="second")(x)
    return keras.Model(inputs, layers.Dense(1, name="head")(x), name="wide_net")


def trained(target_bytes: int, epochs: int) -> keras.Model:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 16)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(16, 1)).astype(np.float32))
    rule = tq.Rule(
        ".*", tq.LearnedBits(loss_aware=True, pace=100.0), tq.SinAReQ(strength=0.1, rise=0.05)
    )
    q = tq.quantize(wide_net(), [rule])
    q.compile(keras.optimizers.Adam(1e-3), "mse")
    budget = tq.BitsBudget(target_bytes, container_size, looks=5)
    q.fit(x, y, epochs=epochs, batch_size=32, verbose=0, callbacks=[budget, tq.Stages()])
    return q


@pytest.mark.long
def test_the_container_takes_what_was_asked_for():
    assert 0.93 * 5200 < container_size(trained(5200, epochs=15)) < 1.02 * 5200


@pytest.mark.long
def test_a_size_out_of_reach_is_told():
    with pytest.warns(UserWarning) as seen:
        trained(100, epochs=2)
    words = [str(warning.message) for warning in seen]
    assert any(
        text.startswith("wide_net: the container takes more than `target_bytes`.") for text in words
    )
    assert all(
        "learned bits stand at a bound" in text or "target_bytes=100" in text for text in words
    )


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"BitsBudget: `target_bytes` must be positive. Received: target_bytes=0"
    ):
        tq.BitsBudget(0, container_size)
    q = tq.quantize(wide_net())
    q.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"BitsBudget: wide_net learns no bits.*SinAReQ"):
        q.fit(
            np.zeros((32, 16)),
            np.zeros((32, 1)),
            verbose=0,
            callbacks=[tq.BitsBudget(100, container_size)],
        )
