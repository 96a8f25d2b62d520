"""Multi-bit weights below one bit, with the loss and without it: `python -m benchmarks.alq`.

Each cell starts from a float network of `benchmarks.floats`, so seeds vary the order of the batches
alone.

| method | |
|---|---|
| alq | the method, with the groups of the paper |
| alq channelwise | one group per output channel |
| lq | bases and coordinates fitted to float weights straight through, without the loss (H = 1), \
pruned by the error in the weights: LQ-Nets' way, with the epochs, rate, pruning schedule and bits \
of alq |

Plans of "lessons" start from the net of `benchmarks.lenet_teacher` and learn its outputs on shifted
digits, as the record does, whatever the method. In the last epoch the coordinates are whole
numbers. `--overhead` measures a basis step against a float step of Adam, `--plot` draws
docs/pictures/alq.png.
"""

import json
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import tfqreg as tq
from tfqreg.distillation import DistillationLoss
from tfqreg.export import container_size
from tfqreg.export.container import inspect, pack
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.lowering.lower import lower
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import run
from tfqreg.export.verification.samples import graph_inputs
from tfqreg.norms import norms_of
from tfqreg.optimizers import Mode
from tfqreg.projection import projected
from tfqreg.pruning.bases import multibit_kernels, storage_bytes

from .floats import BATCH, TASKS, accuracy, float_model
from .helpers.arguments import add_names, benchmark_parser
from .helpers.data import Split
from .helpers.figures import accuracy_of
from .helpers.record import RESULTS, Cells
from .helpers.timing import alternate, trainer, with_ratios
from .lenet_teacher import NAME, shifted

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "alq.png"
METHODS = ("alq", "alq channelwise", "lq")


@dataclass(frozen=True)
class Plan:
    """What is measured of a network, and how it trains.

    Args:
        task: key of `floats.TASKS`.
        bits: average bits per weight to reach, or None with `size_bytes`.
        seeds, epochs, rounds, samples, rate: of a training.
        methods: to compare.
        tolerance: of `tfqreg.MultiBit`.
        rounds_until, ste_until: of `tfqreg.ALQRounds`, fractions of the training.
        lessons: whether it learns the outputs of `benchmarks.lenet_teacher`.
        size_bytes: container to reach instead of `bits`. Default none.
        scale_dtype: of the export.
    """

    task: str
    bits: float | None
    seeds: int
    epochs: int
    rounds: int
    methods: tuple[str, ...] = METHODS
    samples: int = 20_000
    rate: float = 1e-3
    tolerance: float = 0.02
    rounds_until: float = 0.62
    ste_until: float = 0.86
    lessons: bool = False
    size_bytes: int | None = None
    scale_dtype: str = "float32"


# LeNet-5 at a fifth of a bit: all samples, and the outputs of the teacher to learn from.
LESSONS = Plan(
    "lenet5", 0.2, seeds=3, epochs=16, rounds=4, samples=55_000, tolerance=0.1, lessons=True
)
PLANS = {
    "lenet5_lessons": replace(LESSONS, methods=("alq", "lq")),
    "lenet5_lessons_0.4": replace(LESSONS, bits=0.4, seeds=1, methods=("alq",)),
    "lenet5_lessons_8kB": replace(
        LESSONS,
        bits=None,
        size_bytes=8000,
        scale_dtype="bfloat16",
        seeds=1,
        methods=("alq channelwise",),
    ),
    "vgg": Plan("vgg", bits=1.0, seeds=1, epochs=12, rounds=3, rounds_until=0.7, ste_until=0.8),
    "vgg_half": Plan(
        "vgg", bits=0.5, seeds=1, epochs=12, rounds=3, methods=("alq",), tolerance=0.1
    ),
}


class AtEpoch(keras.callbacks.Callback):
    """Keeps what `measure` returns at the end of the given epochs, counted from 1."""

    def __init__(self, measure: Any, epochs: Any) -> None:
        super().__init__()
        self.measure, self.epochs, self.found = measure, epochs, []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measures."""
        if epoch + 1 in self.epochs:
            self.found.append(self.measure(self.model))


def rounds_for(plan: Plan, method: str) -> tq.ALQRounds:
    """Returns the callback of a method; its last epoch has the coordinates whole."""
    last = 1.0 - 1.0 / plan.epochs
    lq = method == "lq"
    return tq.ALQRounds(
        plan.bits,
        plan.size_bytes,
        partial(container_size, scale_dtype=plan.scale_dtype) if plan.size_bytes else None,
        rounds=plan.rounds,
        split=(3, 0, 1) if lq else (2, 1, 1),
        rounds_until=plan.rounds_until,
        ste_until=last if lq else plan.ste_until,
        coordinate_until=last,
    )


def trained(
    plan: Plan, method: str, seed: int, train: Split, validation: Split
) -> tuple[Any, dict[str, Any]]:
    """Returns a trained model and its figures on the way."""
    keras.utils.set_random_seed(seed)
    structure = "channelwise" if "channelwise" in method else "auto"
    teacher = float_model(NAME if plan.lessons else plan.task)
    model = tq.quantize(teacher, [tq.Rule(".*", tq.MultiBit(structure, tolerance=plan.tolerance))])
    tq.calibrate(model, train[0][: 8 * BATCH], verbose=0)
    optimizer, options = (
        tq.ALQ(plan.rate, loss_aware=method != "lq"),
        {"epochs": plan.epochs, "verbose": 2},
    )
    if plan.lessons:
        random = np.random.default_rng(seed)
        logits = teacher.predict(train[0], batch_size=500, verbose=0)
        options["x"] = tq.recipes.Lessons(
            train[0], logits, BATCH, lambda images: shifted(images, random)
        )
        model.compile(optimizer, DistillationLoss())
    else:
        options |= {"x": train[0], "y": train[1], "batch_size": BATCH}
        model.compile(optimizer, LOSS, metrics=["accuracy"])
    bits_of = AtEpoch(tq.average_bits, range(1, plan.epochs + 1))
    projection = AtEpoch(partial(before_and_after_projection, split=validation), [plan.epochs - 1])
    rounds = rounds_for(plan, method)
    callbacks = [rounds, bits_of, projection]
    start = time.perf_counter()
    model.fit(callbacks=callbacks, **options)
    seconds = time.perf_counter() - start
    if norms_of(model):
        tq.reestimate_norms(model, train[0], BATCH)
    real, whole = projection.found[0]
    return model, {
        "seconds": round(seconds),
        "refused_solves": int(ops.convert_to_numpy(model.optimizer.refused_solves)),
        "bits_by_epoch": bits_of.found,
        "validation_real_coordinates": real,
        "validation_projected": whole,
        "largest_change_by_projection": rounds.deviation,
    }


def before_and_after_projection(model: keras.Model, split: Split) -> tuple[float, float]:
    """Returns a model's accuracy with real coordinates, and with whole ones."""
    real = accuracy(model, split)
    with projected(model):
        return real, accuracy(model, split)


def cell(plan: Plan, method: str, seed: int) -> dict[str, Any]:
    """Returns the figures of one training."""
    train, validation, test = TASKS[plan.task].load()
    train = train[0][: plan.samples], train[1][: plan.samples]
    model, figures = trained(plan, method, seed, train, validation)
    graph = lower(model, scale_dtype=plan.scale_dtype)
    tflite = write_tflite(graph)
    container = pack(tflite)
    inputs = graph_inputs(graph, test[0])
    few = {name: codes[:64] for name, codes in inputs.items()}
    scores = run(tflite, inputs, "litert")[graph.outputs[0]]
    return {
        "bits": tq.average_bits(model),
        "validation": accuracy(model, validation),
        "tflite_test": accuracy_of(scores, test[1]),
        "verify": str(compare(graph, tflite, few, ["litert"])),
        "container_bytes": len(container),
        "tflite_bytes": len(tflite),
        **sizes(model, container),
        **figures,
    }


def sizes(model: keras.Model, container: bytes) -> dict[str, Any]:
    """Returns, by kernel, the bytes of its codes in the container, and by the paper's formula."""
    coded = {tensor.name: tensor.coded_bytes for tensor in inspect(container).tensors}
    rows = {}
    for name, (kernel, _) in multibit_kernels(model).items():
        valid = ops.convert_to_numpy(kernel.state["valid"])
        groups, alphas = math.prod(valid.shape[:2]), int(valid.sum())
        bits = alphas / groups
        rows[name] = {
            "weights": kernel.count,
            "groups": groups,
            "alphas": alphas,
            "formula_bytes": storage_bytes(kernel.count, bits, alphas),
            "formula_with_widths_bytes": storage_bytes(
                kernel.count, bits, alphas, groups, valid.shape[-1]
            ),
            "coded_bytes": next((size for key, size in coded.items() if key == name), None),
        }
    names = ("formula_bytes", "formula_with_widths_bytes")
    return {"by_kernel": rows} | {name: sum(row[name] for row in rows.values()) for name in names}


def float_cell(name: str) -> dict[str, float]:
    """Returns the accuracy of the float network."""
    _, validation, test = TASKS[name].load()
    model = float_model(name)
    return {"validation": accuracy(model, validation), "test": accuracy(model, test)}


def overhead(rounds: int = 5) -> dict[str, float]:
    """Returns milliseconds per step of LeNet-5, in each mode and in float, and per base."""
    model = float_model("lenet5")
    model.compile(keras.optimizers.Adam(1e-4), LOSS)
    runs = {"float": trainer(keras, model)}
    for mode in (Mode.BASIS, Mode.COORDINATE):
        wrapped = tq.quantize(float_model("lenet5"), [tq.Rule(".*", tq.MultiBit())])
        wrapped.compile(tq.ALQ(1e-4), LOSS)
        wrapped.optimizer.build(wrapped.trainable_variables)
        wrapped.optimizer.mode.assign(int(mode))
        runs[mode.name.lower()] = trainer(keras, wrapped)
    seconds = alternate(runs, rounds, "lenet5")
    kernels = [kernel for kernel, _ in multibit_kernels(wrapped).values()]
    group_bases = sum(math.prod(kernel.state["alpha"].shape) for kernel in kernels)
    weight_bases = sum(math.prod(kernel.state["basis"].shape) for kernel in kernels)
    extra = seconds["basis"] - seconds["float"]
    return with_ratios(seconds) | {
        "microseconds_a_group_and_base": 1e6 * extra / group_bases,
        "nanoseconds_a_weight_and_base": 1e9 * extra / weight_bases,
    }


def plot() -> None:
    """Draws the bits of each layer over the epochs of LeNet-5 at its first seed."""
    import matplotlib.pyplot as plt

    cells = json.loads((RESULTS / "alq.json").read_text())["cells"]
    key = f"lenet5_lessons {LESSONS.bits} alq 0"
    rows = cells[key]["bits_by_epoch"]
    figure, axis = plt.subplots(figsize=(6, 3.2))
    for name in rows[0]:
        style = {"color": "black", "linewidth": 2.5} if name == "total" else {}
        label = "all weights" if name == "total" else name.removesuffix("/kernel")
        axis.plot(range(1, len(rows) + 1), [row[name] for row in rows], label=label, **style)
    axis.set(xlabel="epoch", ylabel="bits per weight", yscale="log")
    axis.legend(ncols=2, frameon=False)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Measures the cells that are asked for."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "names", PLANS)
    parser.add_argument("--overhead", action="store_true", help="measure the time of a step alone")
    parser.add_argument("--plot", action="store_true", help="draw the picture of what was measured")
    options = parser.parse_args()
    if options.plot:
        plot()
        return
    cells = Cells(
        "alq", {"batch": BATCH, "plans": {name: vars(plan) for name, plan in PLANS.items()}}
    )
    if options.overhead:
        cells("overhead", overhead)
        return
    for name in options.names:
        plan = PLANS[name]
        cells(f"{plan.task} float", partial(float_cell, plan.task))
        for seed, method in product(range(plan.seeds), plan.methods):
            cells(
                f"{name} {plan.bits or plan.size_bytes} {method} {seed}",
                partial(cell, plan, method, seed),
            )


if __name__ == "__main__":
    main()
