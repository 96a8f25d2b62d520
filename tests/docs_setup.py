"""What the pages of the documentation take for granted: a user's digits and a trained model."""

from functools import cache, partial

import keras
import numpy as np
from keras import layers

from benchmarks.helpers.data import mnist

Split = tuple[np.ndarray, np.ndarray]


@cache
def digits() -> tuple[Split, Split]:
    """Few digits of MNIST: 2,000 to train on, 200 to test."""
    (x, y), _, (x_test, y_test) = mnist()
    return (x[:2000], y[:2000]), (x_test[:200], y_test[:200])


def untrained() -> keras.Model:
    """A small convolutional net of logits with BatchNorm; layers `stem`, `block`, `hidden` and
    `head`.
    """
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu", name="block"),
            layers.Flatten(name="flatten"),
            layers.Dense(48, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ],
        name="digits",
    )


@cache
def trained() -> keras.Model:
    """The same net, trained for a moment; to be copied, not to be changed."""
    model = untrained()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(*digits()[0], epochs=4, verbose=0)
    return model


def offline_keras() -> None:
    """Makes what Keras would download small and local: the digits above, random weights."""
    (x, y), (x_test, y_test) = digits()
    found = tuple(
        ((255 * images[..., 0]).astype("uint8"), labels)
        for images, labels in ((x, y), (x_test, y_test))
    )
    keras.datasets.mnist.load_data = lambda: found
    keras.applications.MobileNetV2 = partial(keras.applications.MobileNetV2, weights=None)
