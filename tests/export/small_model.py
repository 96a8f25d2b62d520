"""A small pruned and quantized model, trained for a moment: enough for files and pictures."""

from functools import cache
from typing import Any

import keras
import numpy as np
from keras import layers

import tfqreg as tq


def data(count: int = 128) -> np.ndarray:
    """Random images (count, 8, 8, 1)."""
    return np.random.default_rng(0).normal(size=(count, 8, 8, 1)).astype(np.float32)


def float_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(4, name="head"),
        ],
        name="small",
    )


@cache
def trained() -> tuple[keras.Model, dict[str, Any], list[Any]]:
    """The model, its history by training, and the figures of its kernels, one per epoch."""
    keras.utils.set_random_seed(0)
    rules = [
        tq.Rule("hidden", tq.Uniform(3), tq.MSQE(), tq.PartialL2(0.75)),
        tq.Rule("conv", tq.Uniform(5), tq.MSQE()),
        tq.Rule("head"),
    ]
    model = tq.quantize(float_model(), rules)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    x = data()
    monitor = tq.Monitor()
    callbacks = [*tq.callbacks_for(model), monitor]
    history = model.fit(x, np.arange(len(x)) % 4, 32, 3, verbose=0, callbacks=callbacks).history
    return model, {"quantized": history}, monitor.rows
