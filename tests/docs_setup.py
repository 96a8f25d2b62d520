"""What the pages of the documentation take for granted: a user's digits and a trained model."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks.helpers.data import mnist

Split = tuple[np.ndarray, np.ndarray]


def run_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without graphs: building one takes longer than the few steps of a page."""
    trainer = next(owner for owner in keras.Model.__mro__ if "compile" in vars(owner))
    compile_ = trainer.compile
    monkeypatch.setattr(
        trainer,
        "compile",
        lambda model, *values, **named: compile_(model, *values, **{"run_eagerly": True, **named}),
    )


@cache
def digits() -> tuple[Split, Split]:
    """Few digits of MNIST: 128 to train on, 64 to test."""
    (x, y), _, (x_test, y_test) = mnist()
    return (x[:128], y[:128]), (x_test[:64], y_test[:64])


def untrained() -> keras.Model:
    """A small dense net of logits with BatchNorm; layers `stem`, `hidden` and `head`."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Flatten(name="flatten"),
            layers.Dense(24, use_bias=False, name="stem"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ],
        name="digits",
    )


@cache
def trained() -> keras.Model:
    """The same net, trained for a moment; to be copied, not to be changed."""
    model = untrained()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
    model.fit(*digits()[0], batch_size=64, epochs=12, verbose=0)
    return model
