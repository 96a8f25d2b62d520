"""Whole trainings as one call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tfqreg.calibration import calibrate
from tfqreg.callbacks.size_budget import SizeBudget
from tfqreg.callbacks.stages import Stages
from tfqreg.distillation import DistillationLoss
from tfqreg.errors import ModelError
from tfqreg.layers.activation_quantizer import rounding_replaced
from tfqreg.layers.queries import activation_layers
from tfqreg.lessons import Augment, Lessons
from tfqreg.norms import norms_of, reestimate_norms
from tfqreg.pruning.dead_units import remove_dead_units
from tfqreg.pruning.rate_distortion import RateDistortion
from tfqreg.pruning.weak_units import drop_weak_units
from tfqreg.quantizers import Uniform
from tfqreg.regularizers.rate import Rate
from tfqreg.wrap import Rule, quantize

# Images that scales are fitted to before they are trained: a few hundred do.
CALIBRATION_IMAGES = 512
# Images that BatchNormalization is measured on: a variance from n images is off by sqrt(2 / n) of
# itself, about a percent for these.
NORM_IMAGES = 10_000
# Images per batch when the teacher is asked: its activations, without gradients, fit in memory.
TEACHER_BATCH = 500


def smallest(
    model: keras.Model,
    images: np.ndarray,
    keep: float = 0.06,
    sparsity: float = 0.9,
    rules: Sequence[Rule] | None = None,
    target_bytes: int | None = None,
    size: Callable[[keras.Model], int] | None = None,
    epochs: tuple[int, int] = (10, 20),
    rate: float = 2e-3,
    temperature: float = 1.0,
    augment: Augment | None = None,
    batch_size: int = 128,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> keras.Model:
    """Returns a narrow, sparse, quantized model that gives what a float model gives.

    It is trained on images alone:

    1. The weakest units leave (`drop_weak_units`).
    2. Weights are pruned by their worth per coded bit while the rest learns the float model's
       outputs, in float (`RateDistortion`, `DistillationLoss`); with a target, the sparsity follows
       the container's bytes (`SizeBudget`).
    3. Dead units leave (`remove_dead_units`).
    4. What remains is quantized by learned MSQE with a price on bytes (`Rate`), and settles; dead
       units leave again.
    5. BatchNormalization, if there is any, is measured anew (`reestimate_norms`).

    Args:
        model: a trained float model of logits, Functional or Sequential. The better it generalises,
            the smaller the result may be.
        images: training inputs, without labels.
        keep: fraction of the weights in the units that stay at the start; 0.06 by default.
        sparsity: fraction of those to prune, 0.9 by default; with a target, what it starts from.
        rules: what holds for which layer, as of `quantize`; by default 3 bits, `Rate()` and one
            `RateDistortion` for all. A rule of its own with more bits and no `prune` suits
            depthwise convolutions.
        target_bytes: what the container may take, but for what step 5 makes of scales and biases;
            None, the default, leaves `sparsity` as it is.
        size: returns the bytes of a model: `tfqreg.export.container_size`. Needed with a target.
        epochs: of pruning and of quantized training; 10 and 20 by default.
        rate: of Adam at the start of both, falling to 0 along a cosine; 2e-3 by default.
        temperature: of the distillation; 1 by default.
        augment: maps a batch of images to another, fresh for every batch; the float model sees the
            originals. None by default.
        batch_size: images per batch; 128 by default.
        callbacks: more callbacks, of both trainings; none by default.
        verbose: as of `fit`; "auto" by default.

    Raises:
        ModelTypeError: for a subclassed model.
        ModelError: as `quantize`, `drop_weak_units` and `SizeBudget`, and for a target without
            `size`.

    Example:
        >>> import keras, numpy as np
        >>> import tfqreg as tq
        >>> body, head = keras.layers.Dense(16, name="body"), keras.layers.Dense(2)
        >>> net = keras.Sequential([keras.Input((4,)), body, head])
        >>> images = np.random.rand(64, 4).astype("float32")
        >>> options = {"keep": 0.5, "sparsity": 0.5, "epochs": (1, 1), "verbose": 0}
        >>> small = tq.recipes.smallest(net, images, **options)
        >>> small.get_layer("body").layer.units < 16
        True
    """
    if target_bytes is not None and size is None:
        raise ModelError(
            "smallest",
            "a target needs `size`, which returns the bytes of a model: "
            "tfqreg.export.container_size",
            received=f"target_bytes={target_bytes}, size=None",
        )
    narrow = drop_weak_units(model, keep)
    q = quantize(
        narrow, rules or [Rule(".*", Uniform(3), Rate(2e-6, alpha=1e-4), RateDistortion(sparsity))]
    )
    logits = model.predict(images, batch_size=TEACHER_BATCH, verbose=0)
    lessons = Lessons(images, logits, batch_size, augment)
    sample = images[np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES]]

    def fit(stage_epochs: int, stages: Stages) -> None:
        schedule = keras.optimizers.schedules.CosineDecay(rate, stage_epochs * len(lessons))
        q.compile(keras.optimizers.Adam(schedule), DistillationLoss(temperature))
        budget = []
        if target_bytes is not None and size is not None:
            budget = [SizeBudget(target_bytes, _without_dead(size))]
        q.fit(
            lessons,
            epochs=stage_epochs,
            callbacks=[*budget, stages, *callbacks],
            verbose=verbose,  # type: ignore[arg-type]
        )

    with _float_activations(q, sample):
        # Sparsity rises for most of the epochs: weights are float, and learn until the masks are
        # final. What is left of them lets the survivors get used to that.
        fit(epochs[0], Stages(prune_until=0.85, ramp_until=0.75, settle_from=1.0))
    q = remove_dead_units(q)
    calibrate(q, sample, correct_bias=False, verbose=0)
    # Masks are final, so weights are quantized from the first step.
    fit(epochs[1], Stages(prune_until=0.0, ramp_until=0.0, settle_from=0.8))
    q = remove_dead_units(q)
    return reestimate_norms(q, images[:NORM_IMAGES], batch_size, verbose=0) if norms_of(q) else q


def _without_dead(size: Callable[[keras.Model], int]) -> Callable[[keras.Model], int]:
    return lambda model: size(remove_dead_units(model))


@contextmanager
def _float_activations(model: keras.Model, sample: np.ndarray) -> Iterator[Any]:
    """Lets activations pass as they are, while a first grid stands ready for a look at the size."""
    calibrate(model, sample, correct_bias=False, verbose=0)
    layers = activation_layers(model)
    try:
        for layer in layers:
            layer.trainable = False
        with rounding_replaced(layers, lambda layer, x: x):
            yield
    finally:
        for layer in layers:
            layer.trainable = True
