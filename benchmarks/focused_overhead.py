"""What focused quantization costs in training: `python -m benchmarks.focused --overhead`."""

import statistics
import time
from typing import Any

import keras
import numpy as np

import tfqreg as tq

from .helpers.architectures import lenet5, mobile_blocks
from .helpers.record import write_result
from .helpers.small_networks import resnet14
from .helpers.timing import BATCH, NEVER, STEPS, alternate, trainer, with_ratios


def overhead(rounds: int) -> None:
    """Times a training step in turns with float, and a refit of a million weights."""

    def compiled(model: Any) -> Any:
        model.compile(
            keras.optimizers.Adam(1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return model

    def callbacks() -> list[Any]:
        stages = tq.Stages(0.0, 0.0, 1.0, total_steps=NEVER)
        return [stages, tq.Incremental(start=0.0, until=1.0, total_steps=NEVER)]

    figures = {}
    for build in (lenet5, mobile_blocks, resnet14):
        keras.utils.set_random_seed(0)
        model = build()
        rules = [tq.Rule(".*", tq.Focused(), prune=tq.Surgery(0.8))]
        wrapped = {
            bits: compiled(tq.quantize(model, rules, activations=bits)) for bits in (None, 8)
        }
        runs = {
            "float": trainer(keras, compiled(model)),
            "focused": trainer(keras, wrapped[None], callbacks),
            "focused_8_bit_activations": trainer(keras, wrapped[8], callbacks),
        }
        figures[model.name] = with_ratios(alternate(runs, rounds, model.name))
        print(model.name, figures[model.name], flush=True)
    result = {
        "steps_a_turn": STEPS,
        "batch": BATCH,
        "networks": figures,
        "refit_seconds_a_million_weights": refit(),
    }
    print(write_result("focused_overhead", result))


def refit() -> float:
    """Returns the median seconds that `Focused.fit_state` takes for a million surviving weights."""
    rng = np.random.default_rng(0)
    w = (rng.choice([-1, 1], (1000, 1000)) * rng.normal(0.5, 0.15, (1000, 1000))).astype(np.float32)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        tq.Focused().fit_state(w, (1,))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
