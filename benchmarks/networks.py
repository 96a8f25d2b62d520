"""The networks of the benchmarks."""

import keras
from keras import layers


def lenet5(classes: int = 10) -> keras.Model:
    """Returns Caffe's LeNet-5: 20 and 50 convolutions 5x5, 500 and 10 dense units; 430,500 weights, raw logits."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(20, 5, name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(50, 5, name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="fc1"),
            layers.Dense(classes, name="fc2"),
        ],
        name="lenet5",
    )
