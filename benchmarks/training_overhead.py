"""How much longer a training step takes when a model is wrapped: `python -m
benchmarks.training_overhead`.

Float and wrapped models train in turns on the same batch within one process, and the ratio of the
medians counts. The wrapped model has quantized weights and activations, MSQE and pruning, with the
callbacks a user runs; it is measured in its pruning stage and in its quantized one. TensorFlow
Model Optimization's QAT is measured the same way against tf_keras, in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

BATCH = 128
STEPS = 20
NEVER = 10**9  # so long a training that its stage does not change while it is measured


def alternate(
    runs: dict[str, Callable[[], list[float]]], rounds: int, label: str
) -> dict[str, float]:
    """Returns the median seconds a step of each run, the runs taking turns."""
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
    """Returns a function that trains a compiled model for `STEPS` steps and returns the seconds of
    each.

    Args:
        keras: keras or tf_keras, whichever the model is of.
        model: the compiled model.
        callbacks: makes the callbacks of a run; their time counts.
    """

    class Clock(keras.callbacks.Callback):
        """Takes the time from the beginning of a step to its end; what `fit` does around them does
        not count.
        """

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


def measure_tfqreg(rounds: int) -> dict[str, dict[str, float]]:
    """Returns, by network, seconds a step and ratios over float for both stages."""
    import keras

    import tfqreg as tq

    from .helpers.architectures import lenet5, mobile_blocks

    def compiled(model: Any) -> Any:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-4), loss)
        return model

    results = {}
    for build in (lenet5, mobile_blocks):
        keras.utils.set_random_seed(0)
        model = build()
        rules = [tq.Rule(".*", tq.Uniform(4), tq.MSQE(), tq.PartialL2(0.8))]
        pruning, quantized = (compiled(tq.quantize(model, rules)) for _ in range(2))
        runs = {
            "float": trainer(keras, compiled(model)),
            "pruning": trainer(keras, pruning, lambda: [tq.Stages(total_steps=NEVER)]),
            "quantized": trainer(
                keras, quantized, lambda: [tq.Stages(0.0, 0.0, 1.0, total_steps=NEVER)]
            ),
        }
        results[model.name] = with_ratios(alternate(runs, rounds, model.name))
    return results


def measure_tfmot(rounds: int) -> dict[str, dict[str, float]]:
    """Returns the same for TensorFlow Model Optimization's quantization-aware training on tf_keras."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from .helpers.architectures import lenet5, mobile_blocks

    results = {}
    for build in (lenet5, mobile_blocks):
        keras.utils.set_random_seed(0)
        model = build(backend=keras)
        models = {"float": model, "quantized": tfmot.quantization.keras.quantize_model(model)}
        for each in models.values():
            each.compile(
                keras.optimizers.Adam(1e-4),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
        runs = {name: trainer(keras, each) for name, each in models.items()}
        results[model.name] = with_ratios(alternate(runs, rounds, f"{model.name}, TFMOT"))
    return results


def with_ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Returns milliseconds a step by run, and each run's ratio over float."""
    figures = {f"{name}_ms": 1e3 * value for name, value in seconds.items()}
    return figures | {
        f"{name}_ratio": value / seconds["float"]
        for name, value in seconds.items()
        if name != "float"
    }


def main() -> None:
    """Measures both and writes `results/training_overhead.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each run; 15 by default")
    parser.add_argument("--tfmot", action="store_true", help="measure TFMOT alone, and print JSON")
    options = parser.parse_args()
    if options.tfmot:
        print(json.dumps(measure_tfmot(options.rounds)))
        return
    from .helpers.record import write_result

    tfqreg_figures = measure_tfqreg(options.rounds)
    command = [
        sys.executable,
        "-m",
        "benchmarks.training_overhead",
        "--tfmot",
        "--rounds",
        str(options.rounds),
    ]
    tfmot = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = {"steps_a_turn": STEPS, "batch": BATCH, "tfqreg": tfqreg_figures}
    result["tfmot_qat"] = json.loads(tfmot.stdout.splitlines()[-1])
    path = write_result("training_overhead", result)
    print(json.dumps(result, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
