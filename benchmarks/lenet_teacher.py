"""A float LeNet-5 trained on shifted digits with dropout: `python -m benchmarks.lenet_teacher`.

The benchmark of the record starts from it; `benchmarks.floats` holds the one trained the plain way.
"""

import time

import keras
import numpy as np
from keras import layers

from .floats import BATCH, WEIGHTS, accuracy, compiled
from .helpers.architectures import lenet5
from .helpers.data import mnist
from .helpers.record import write_result

# Shifted digits can be seen often: they are never quite the same.
EPOCHS = 20
RATE = 1e-3
# Pixels: digits of MNIST have a margin of four.
SHIFT = 2
NAME = "lenet5_shifted"


def shifted(images: np.ndarray, random: np.random.Generator, pixels: int = SHIFT) -> np.ndarray:
    """Returns every image moved by -pixels to pixels along each axis, zeros where nothing moved in.

    Args:
        images: of shape (n, height, width, channels).
        random: where the moves come from.
        pixels: 2 by default.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    corners = random.integers(2 * pixels + 1, size=(2, len(images), 1, 1))
    rows = corners[0] + np.arange(height)[:, None]
    columns = corners[1] + np.arange(width)
    return padded[np.arange(len(images))[:, None, None], rows, columns]


class ShiftedBatches(keras.utils.PyDataset):
    """Batches of shifted images with labels, in a new order and with new shifts every epoch."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        super().__init__()
        self.images, self.labels, self.random = images, labels, np.random.default_rng(seed)
        self.order = self.random.permutation(len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        return shifted(self.images[chosen], self.random), self.labels[chosen]

    def on_epoch_end(self) -> None:
        """Shuffles."""
        self.order = self.random.permutation(len(self.images))


def main() -> None:
    """Trains the network and writes its weights and `results/lenet_teacher.json`."""
    keras.utils.set_random_seed(0)
    train, validation, test = mnist()
    model = lenet5()
    *body, last = model.layers
    x = model.inputs[0]
    for layer in body:
        x = layer(x)
    trained = keras.Model(model.inputs, last(layers.Dropout(0.5)(x)))
    batches, start = ShiftedBatches(*train, seed=0), time.perf_counter()
    compiled(trained, RATE, EPOCHS * len(batches))
    trained.fit(batches, epochs=EPOCHS, validation_data=validation, verbose=2)
    model.compile()
    model.save(WEIGHTS / f"{NAME}.keras", include_optimizer=False)
    found = {
        "validation_accuracy": accuracy(model, validation),
        "test_accuracy": accuracy(model, test),
    }
    seconds = round(time.perf_counter() - start, 1)
    write_result(
        "lenet_teacher",
        {"seed": 0, "epochs": EPOCHS, "rate": RATE, "shift": SHIFT, **found, "seconds": seconds},
    )
    print(found)


if __name__ == "__main__":
    main()
