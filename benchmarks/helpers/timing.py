"""Times of runs that take turns in one process: what slows the machine then slows all of them."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

# As in the trainings of the benchmarks.
BATCH = 128
# Long enough that what `fit` does at its start and end hardly counts; a turn takes about a second.
STEPS = 20
# So long a training that its stage does not change while it is measured.
NEVER = 10**9


def alternate(
    runs: dict[str, Callable[[], list[float]]], rounds: int, label: str
) -> dict[str, float]:
    """Returns the median of each run's seconds, the runs taking turns.

    Args:
        runs: by name, functions that return the seconds of what they did. Each is called once
            before, because a first call traces.
        rounds: turns of each.
        label: of the progress bar.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(rounds), desc=label):
        for name, run in runs.items():
            seconds[name] += run()
    return {name: statistics.median(values) for name, values in seconds.items()}


def trainer(
    keras: Any, model: Any, callbacks: Callable[[], list[Any]] = list
) -> Callable[[], list[float]]:
    """Returns a function that trains a model for `STEPS` steps and returns the seconds of each.

    Args:
        keras: keras or tf_keras, whichever the model is of.
        model: the compiled model.
        callbacks: makes the callbacks of a run; their time counts.
    """

    class Clock(keras.callbacks.Callback):
        """Takes the time of each step from its beginning to its end, without what lies between."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    x = np.random.default_rng(0).random((BATCH * STEPS, *model.input_shape[1:]), np.float32)
    y = np.random.default_rng(1).integers(0, 10, BATCH * STEPS)

    def run() -> list[float]:
        clock = Clock()
        model.fit(x, y, batch_size=BATCH, verbose=0, shuffle=False, callbacks=[clock, *callbacks()])
        return clock.seconds

    return run


def with_ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Returns milliseconds per step by run, and each run's ratio over float."""
    figures = {f"{name}_ms": 1e3 * value for name, value in seconds.items()}
    return figures | {
        f"{name}_ratio": value / seconds["float"]
        for name, value in seconds.items()
        if name != "float"
    }
