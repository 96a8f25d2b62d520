"""Networks that train within minutes on two cores; all give raw logits."""

import keras
from keras import layers

from .architectures import conv_norm, norm_relu, residual_head

COLOUR = (32, 32, 3)


def two_conv_three_dense(classes: int = 10) -> keras.Model:
    """Returns what SinReQ's authors call CIFAR-10: two convolutions 5x5, three dense layers."""
    return keras.Sequential(
        [
            keras.Input(COLOUR, name="image"),
            layers.Conv2D(6, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(16, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(120, activation="relu", name="fc1"),
            layers.Dense(84, activation="relu", name="fc2"),
            layers.Dense(classes, name="fc3"),
        ],
        name="two_conv_three_dense",
    )


def vgg(classes: int = 10, width: int = 12) -> keras.Model:
    """Returns a narrow VGG-small: five convolutions 3x3 with BatchNorm, three dense layers."""
    inputs = keras.Input(COLOUR, name="image")
    x = inputs
    for stage, convs in enumerate((1, 2, 2)):
        for index in range(convs):
            name = f"conv{stage + 1}_{index + 1}"
            x = norm_relu(
                layers.Conv2D(width << stage, 3, padding="same", use_bias=False, name=name)(x), name
            )
        x = layers.MaxPooling2D(2, name=f"pool{stage + 1}")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = norm_relu(layers.Dense(256, use_bias=False, name=name)(x), name)
    return keras.Model(inputs, layers.Dense(classes, name="fc3")(x), name="vgg")


def resnet14(classes: int = 10, width: int = 16) -> keras.Model:
    """Returns a residual network of three stages, two blocks each, after a stem of stride 2."""
    inputs = keras.Input(COLOUR, name="image")
    x = layers.ReLU(name="stem_relu")(conv_norm(inputs, width, 3, 2, "stem"))
    return keras.Model(inputs, residual_head(x, width, 3, classes), name="resnet14")
