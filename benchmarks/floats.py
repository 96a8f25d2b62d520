"""Float networks that the benchmarks of the methods start from: `python -m benchmarks.floats`.

Trained once, with seed 0, and kept in `benchmarks/weights`: what varies with a benchmark's seeds is
what comes after.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from .helpers.architectures import lenet5, mobile_blocks, shufflenet
from .helpers.arguments import add_names, benchmark_parser
from .helpers.data import Split, colour_fashion, fashion_mnist, mnist
from .helpers.figures import accuracy_of
from .helpers.record import Cells
from .helpers.small_networks import COLOUR, resnet14, two_conv_three_dense, vgg

# Of all trainings here, so that their times compare.
BATCH = 128
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Task:
    """A network, its data and how its float weights are trained."""

    build: Callable[[], keras.Model]
    load: Callable[[], tuple[Split, Split, Split]]
    epochs: int
    rate: float = 2e-3


TASKS = {
    "lenet5": Task(lenet5, mnist, 12, 1e-3),
    "mobile_fashion": Task(mobile_blocks, fashion_mnist, 8),
    "two_conv": Task(two_conv_three_dense, colour_fashion, 12),
    "vgg": Task(vgg, colour_fashion, 8),
    "resnet": Task(resnet14, colour_fashion, 8),
    "mobile_colour": Task(lambda: mobile_blocks(shape=COLOUR), colour_fashion, 10),
    "shuffle_colour": Task(lambda: shufflenet(COLOUR, classes=10, width=60), colour_fashion, 10),
}


def compiled(model: keras.Model, rate: float, steps: int) -> keras.Model:
    """Returns the model compiled with Adam, its rate falling to 0 along a cosine over `steps`."""
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(
    model: keras.Model,
    split: Split,
    rate: float,
    epochs: int,
    callbacks: Iterable[Any] = (),
    **options: Any,
) -> keras.Model:
    """Trains along a cosine that ends with the last epoch; returns the model.

    `options` go to `fit`.
    """
    steps = epochs * -(-len(split[0]) // BATCH)
    options = {"verbose": 2} | options
    compiled(model, rate, steps).fit(
        *split, batch_size=BATCH, epochs=epochs, callbacks=list(callbacks), **options
    )
    return model


def accuracy(model: keras.Model, split: Split) -> float:
    """Returns the fraction of samples whose largest score is the label's."""
    return accuracy_of(model.predict(split[0], batch_size=500, verbose=0), split[1])


def float_model(name: str) -> keras.Model:
    """Returns a task's trained float network; `name` is a key of TASKS."""
    return keras.models.load_model(WEIGHTS / f"{name}.keras", compile=False)


def trained(name: str) -> dict[str, float]:
    """Trains a task's network from seed 0, saves it, and returns its figures."""
    task = TASKS[name]
    keras.utils.set_random_seed(0)
    train_split, validation, test = task.load()
    model = train(task.build(), train_split, task.rate, task.epochs, validation_data=validation)
    model.compile()  # drops the optimizer, whose state would triple the file
    model.save(WEIGHTS / f"{name}.keras", include_optimizer=False)
    return {
        "parameters": model.count_params(),
        "epochs": task.epochs,
        "rate": task.rate,
        "validation_accuracy": accuracy(model, validation),
        "test_accuracy": accuracy(model, test),
    }


def main() -> None:
    """Trains the networks that `results/floats.json` lacks, and writes their weights."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "names", TASKS)
    cells = Cells("floats", {"seed": 0, "batch": BATCH})
    for name in parser.parse_args().names:
        cells(name, partial(trained, name))


if __name__ == "__main__":
    main()
