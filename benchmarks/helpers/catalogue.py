"""The networks that must come through an export unharmed, and images for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import applications

from .architectures import resnet18, shufflenet, super_resolution, super_resolution_transposed
from .efficientnet_lite0 import efficientnet_lite0, preprocess
from .pretrained import cifar10_samples, imagenet_samples, resnet8, squeezenet, squeezenet_inputs

# Standard deviation over the classes, about that of trained networks.
LOGIT_SPREAD = 3.0


@dataclass(frozen=True)
class Network:
    """A float network and images for it; weights not `trained` are random, and settled first."""

    make: Callable[[], keras.Model]
    images: Callable[[keras.Model], np.ndarray]
    trained: bool = False

    def build(self) -> tuple[keras.Model, np.ndarray]:
        """Returns the float model and its images, float32 (count, height, width, channels)."""
        keras.utils.set_random_seed(0)
        model = self.make()
        images = self.images(model)
        return (model if self.trained else settle(model, images)), images


def settle(model: keras.Model, images: np.ndarray, seed: int = 0) -> keras.Model:
    """Gives random weights what training leaves: biases, gammas, betas, statistics of images.

    Statistics as initialized would let activations fade to 1e-30 over many layers, whose scales no
    runtime takes.
    """
    random = np.random.default_rng(seed)
    norms = []
    for layer in model._flatten_layers(recursive=True, include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            norms.append((layer, layer.momentum))
            layer.momentum = 0.0
            if layer.scale:
                layer.gamma.assign(random.normal(1.0, 0.2, layer.gamma.shape))
            layer.beta.assign(random.normal(0.0, 0.2, layer.beta.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0.0, 0.1, layer.bias.shape))
    model(images, training=True)
    for layer, momentum in norms:
        layer.momentum = momentum
    _spread_scores(model, images)
    return model


def _spread_scores(model: keras.Model, images: np.ndarray) -> None:
    """Scales the classifier before a softmax until its logits spread as those of a trained one.

    Flat scores of 1000 classes break the reference kernels of SOFTMAX
    (tfqreg.export.kernels.softmax).
    """
    if getattr(model.layers[-1], "activation", None) is not keras.activations.softmax:
        return
    head = next(layer for layer in reversed(model.layers) if hasattr(layer, "kernel"))
    activation, head.activation = head.activation, keras.activations.linear
    logits = np.asarray(keras.Model(model.input, head.output)(images))
    head.activation = activation
    head.kernel.assign(head.kernel * (LOGIT_SPREAD / logits.std(-1).mean()))


def random_images(
    model: keras.Model, low: float = -1.0, high: float = 1.0, count: int = 16
) -> np.ndarray:
    """Returns noise of a brightness of its own for each image, between `low` and `high`."""
    random = np.random.default_rng(0)
    shape = model.inputs[0].shape[1:]
    brightness = random.random((count, 1, 1, shape[-1]))
    noise = (brightness + random.random((count, *shape))) / 2
    return (low + (high - low) * noise).astype(np.float32)


def application(name: str, size: int, high: float = 1.0, **options: Any) -> Network:
    """Returns a network of keras.applications with random weights.

    Args:
        name: of the function, "MobileNet" for example.
        size: height and width of its images.
        high: the brightest value of a pixel; 255 for networks that begin with their own scaling.
        options: further arguments of the function.
    """
    make = partial(
        getattr(applications, name), input_shape=(size, size, 3), weights=None, **options
    )
    return Network(make, partial(random_images, low=0.0 if high > 1 else -1.0, high=high))


def _imagenet(
    size: int, prepare: Callable[[np.ndarray], np.ndarray]
) -> Callable[[keras.Model], np.ndarray]:
    return lambda _: prepare(imagenet_samples(size)[0])


NETWORKS = {
    "MobileNet": application("MobileNet", 128),
    "MobileNetV2": application("MobileNetV2", 128),
    "MobileNetV3Small": application("MobileNetV3Small", 128, high=255.0),
    "EfficientNetB0": application("EfficientNetB0", 128, high=255.0),
    "ResNet50": application("ResNet50", 96),
    "DenseNet121": application("DenseNet121", 96),
    "NASNetMobile": application("NASNetMobile", 96),
    "ShuffleNet V1": Network(partial(shufflenet, (128, 128, 3)), random_images),
    "ResNet-18": Network(partial(resnet18, (96, 96, 3)), random_images),
    "Super-resolution, depth_to_space": Network(super_resolution, random_images),
    "Super-resolution, Conv2DTranspose": Network(super_resolution_transposed, random_images),
    "EfficientNet-Lite0": Network(efficientnet_lite0, _imagenet(224, preprocess), trained=True),
    "SqueezeNet 1.1": Network(squeezenet, _imagenet(227, squeezenet_inputs), trained=True),
    "ResNet-8": Network(resnet8, lambda _: cifar10_samples()[0], trained=True),
}
