"""Batches of images with what a teacher gives for them, for training without labels.

`Lessons` knows the teacher's outputs of an array from the start, and may augment what the student
sees; `lessons_without_end` asks the teacher about every batch as it comes, so that the batches may
be anything.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfqreg.batches import batches_of, inputs_of, samples_for

Augment = Callable[[np.ndarray], np.ndarray]


class Lessons(keras.utils.PyDataset):
    """Batches of images, augmented anew, with the teacher's outputs of the images as they are.

    The images are shuffled every epoch.

    Args:
        images: (images, *shape).
        logits: the teacher's outputs, (images, classes).
        batch_size: images per batch; the last batch may have fewer.
        augment: maps a batch of images to another; None leaves them as they are.

    Example:
        >>> lessons = Lessons(np.zeros((5, 4)), np.zeros((5, 3)), batch_size=2, augment=None)
        >>> len(lessons), lessons[0][1].shape
        (3, (2, 3))
    """

    def __init__(
        self, images: np.ndarray, logits: np.ndarray, batch_size: int, augment: Augment | None
    ) -> None:
        super().__init__()
        self.images, self.logits = images, logits
        self.batch_size, self.augment = batch_size, augment
        self.order = np.random.permutation(len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[chosen]
        return images if self.augment is None else self.augment(images), self.logits[chosen]

    def on_epoch_end(self) -> None:
        """Shuffles."""
        self.order = np.random.permutation(len(self.images))


def lessons_without_end(
    teacher: keras.Model, photos: Any, batch_size: int
) -> Iterator[tuple[Any, Any]]:
    """Yields batches of images with the teacher's outputs, epoch after epoch.

    Args:
        teacher: the model that is asked.
        photos: an array, shuffled every epoch, or what gives batches, labels ignored, in the forms
            of `calibrate`. A generator ends after one epoch.
        batch_size: images per batch of an array.
    """
    for epoch in itertools.count():
        empty = True
        samples = samples_for(teacher, photos)
        for batch in batches_of(samples, batch_size, shuffle_seed=epoch):
            empty = False
            images = inputs_of(teacher, batch)
            # `fit` takes several inputs or outputs as a tuple, never as a list.
            yield _tuples(images), _tuples(teacher.predict_on_batch(images))
        if empty:  # a generator is used up
            return


def _tuples(arrays: Any) -> Any:
    return tuple(arrays) if isinstance(arrays, list) else arrays
