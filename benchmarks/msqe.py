"""The learned coefficient beside its rivals: `python -m benchmarks.msqe`.

A BatchNorm and depthwise network, trained in float, is fine-tuned with low-precision weights and
activations: without a regularizer, with MSQE at a fixed and at a learned coefficient, LSQ,
oscillation dampening, QSin. All get the same epochs, batches and rate. What has a strength gets
three tries, at 2 bits and with one seed, and the validation split chooses. `_norms` measures the
statistics of BatchNorm anew at the end. The test split is looked at once per cell. Grid and epochs
are small: a fine-tuning of seconds.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import tfqreg as tq
from tfqreg.callbacks.stop import relative_error
from tfqreg.layers.kernel import Stage
from tfqreg.layers.queries import kernel_pairs

from .floats import TASKS, accuracy, compiled, float_model
from .helpers.arguments import benchmark_parser
from .helpers.data import Split
from .helpers.record import Cells

# A fine-tuning of seconds: small batches give 313 steps.
SAMPLES, EPOCHS, BATCH, RATE, SEEDS = 10_000, 1, 32, 2e-3, (0, 1, 2)
# Samples before and after the snap, and to measure the norms anew on.
FEW, NORM_SAMPLES = 2000, 4000


@dataclass(frozen=True)
class Method:
    """One of the rivals.

    Args:
        regularizer: makes it from a strength. Default none.
        strengths: to choose from.
        scale_from: what trains the scales.
        settle_from: fraction of the training after which all weights are quantized.
        norms: whether BatchNorm's statistics are measured anew at the end.
        activations: makes the range from a number of bits.
    """

    regularizer: Callable[[float], Any] | None = None
    strengths: tuple[float, ...] = ()
    scale_from: str = "msqe"
    settle_from: float = 0.85
    norms: bool = False
    activations: Callable[[int], Any] = tq.LearnedRange


LSQ = Method(scale_from="task", activations=functools.partial(tq.LearnedRange, scale_from="task"))
METHODS = {
    "ste": Method(),
    "fixed": Method(lambda strength: tq.MSQE(coefficient=strength), (10.0, 100.0, 1000.0)),
    "learned": Method(lambda strength: tq.MSQE(alpha=strength), (0.01, 0.1, 1.0)),
    # The method's first form: float weights in the forward pass, quantized at the end alone.
    "learned_float": Method(
        lambda strength: tq.MSQE(strength, forward="float"), (0.01, 0.1, 1.0), settle_from=1.0
    ),
    "lsq": LSQ,
    "ste_norms": Method(norms=True),
    "learned_norms": Method(lambda strength: tq.MSQE(alpha=strength), (0.01, 0.1, 1.0), norms=True),
    "lsq_norms": replace(LSQ, norms=True),
    "dampening": Method(tq.Dampening, (0.001, 0.01, 0.1)),
    "qsin": Method(tq.QSin, (10.0, 100.0, 1000.0)),
    # Activations after a ReLU on even levels of [0, 1], and on uneven ones that no integer model
    # has.
    "unit_range": Method(activations=tq.UnitRange),
    "uneven": Method(activations=tq.MultiBitRange),
}
# Task, weight bits, activation bits, methods; the first rows matter most.
MAIN = ("ste", "fixed", "learned", "lsq")
GRID = [
    ("mobile_fashion", 2, 8, MAIN),
    ("mobile_fashion", 4, 8, MAIN),
    ("mobile_fashion", 1, 8, MAIN),
    ("mobile_fashion", 2, 8, ("ste_norms", "learned_norms", "lsq_norms")),
    ("mobile_fashion", 1, 8, ("ste_norms", "learned_norms", "lsq_norms")),
    ("mobile_fashion", 8, 8, MAIN),
    ("mobile_fashion", 3, 8, MAIN),
    ("mobile_fashion", 2, 8, ("learned_float", "dampening", "qsin")),
    ("mobile_fashion", 2, 4, ("ste", "learned", "lsq")),
    ("mobile_colour", 2, 8, ("ste", "learned", "lsq")),
    ("mobile_fashion", 4, 2, ("unit_range", "uneven")),
]
CHOSEN_AT = ("mobile_fashion", 2, 8)


class Trial:
    """One configuration: traced once, started anew from the same weights for every seed."""

    def __init__(
        self, task: str, bits: int, activations: int, method: Method, strength: float | None
    ) -> None:
        low, high = (tq.Uniform(n, scale_from=method.scale_from) for n in (bits, max(bits, 8)))
        regularizer = (
            None if strength is None or method.regularizer is None else method.regularizer(strength)
        )
        # First and last layer take 8 bits.
        rules = [tq.Rule("^(stem|head)$", high, regularizer), tq.Rule(".*", low, regularizer)]
        self.model = tq.quantize(float_model(task), rules, method.activations(activations))
        train = splits(task)[0]
        tq.calibrate(self.model, train[0][:512], correct_bias=False, verbose=0)
        self.train, self.method = train, method
        compiled(self.model, RATE, EPOCHS * -(-SAMPLES // BATCH))
        self.start = self.model.get_weights()

    def run(self, seed: int, split: Split) -> dict[str, float]:
        """Trains from the start; returns the figures on a split."""
        began = time.process_time()
        keras.utils.set_random_seed(seed)
        self.model.set_weights(self.start)
        for variable in self.model.optimizer.variables:
            variable.assign(ops.zeros_like(variable))
        chosen = np.random.default_rng(seed).permutation(len(self.train[0]))[:SAMPLES]
        stages = tq.Stages(0.0, 0.0, self.method.settle_from)
        x, y = (part[chosen] for part in self.train)
        self.model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[stages])
        if self.method.norms:
            tq.reestimate_norms(self.model, x[:NORM_SAMPLES], verbose=0)
        pairs = kernel_pairs(self.model)
        figures = {
            "relative_error": float(
                np.mean([relative_error(kernel, w) for kernel, w in pairs[1:-1]])
            )
        }
        figures["scale_excess"] = float(
            np.mean([scale_excess(kernel, w) for kernel, w in pairs[1:-1]])
        )
        # The same samples before and after the snap, fewer than all; then all.
        few = split[0][:FEW], split[1][:FEW]
        for name, stage, part in (
            ("accuracy_before_snap", Stage.PRUNE, few),
            ("accuracy_after_snap", Stage.SETTLE, few),
            ("accuracy", Stage.SETTLE, split),
        ):
            for kernel, _ in pairs:
                kernel.stage.assign(stage)
            figures[name] = accuracy(self.model, part)
        return {**figures, "cpu_seconds": round(time.process_time() - began, 1)}


def scale_excess(kernel: Any, w: Any) -> float:
    """Returns how much larger the squared error is than with the scale of least squares."""
    error = float(kernel.grid_squares(w))
    fitted = kernel.fitted(w)
    best = float(ops.sum(ops.square(w - kernel.quantizer.nearest(w, fitted))))
    return error / best - 1.0 if best else 0.0


@functools.cache
def splits(task: str) -> tuple[Split, Split, Split]:
    """Returns the data of a task, loaded once."""
    return TASKS[task].load()


def strength_of(cells: Cells, name: str) -> float | None:
    """Returns the strength of a method that does best on the validation split."""

    def validate(strength: float) -> float:
        trial = Trial(*CHOSEN_AT, METHODS[name], strength)
        return trial.run(0, splits(CHOSEN_AT[0])[1])["accuracy"]

    tries = METHODS[name].strengths
    found = {s: cells(f"validation {name} {s:g}", functools.partial(validate, s)) for s in tries}
    return max(tries, key=found.__getitem__, default=None)


def measure_row(cells: Cells, task: str, bits: int, activations: int, name: str) -> None:
    """Measures one method at one width with every seed."""

    @functools.cache
    def trial() -> Trial:
        return Trial(task, bits, activations, METHODS[name], strength_of(cells, name))

    for seed in SEEDS:
        key = f"{task} w{bits} a{activations} {name} seed {seed}"
        cells(key, lambda seed=seed: trial().run(seed, splits(task)[2]))
    keras.backend.clear_session()


def summary(
    values: dict[str, Any],
) -> dict[tuple[str, int, int, str], dict[str, tuple[float, float]]]:
    """Returns mean and standard deviation of every figure by (task, bits of both, method)."""
    found = {}
    for task, bits, activations, names in GRID:
        for name in names:
            keys = [f"{task} w{bits} a{activations} {name} seed {seed}" for seed in SEEDS]
            rows = [values[key] for key in keys if key in values]
            if len(rows) < len(SEEDS):
                continue
            snap = [row["accuracy_before_snap"] - row["accuracy_after_snap"] for row in rows]
            columns = {"snap_loss": snap, **{key: [row[key] for row in rows] for key in rows[0]}}
            found[task, bits, activations, name] = {
                key: (float(np.mean(column)), float(np.std(column, ddof=1)))
                for key, column in columns.items()
            }
    return found


def print_table(values: dict[str, Any]) -> None:
    """Prints a row per configuration: accuracy, error to the grid, points lost by the snap."""
    for (task, bits, activations, name), row in summary(values).items():
        accuracy_, error, snap = row["accuracy"], row["relative_error"], row["snap_loss"]
        print(
            f"{task:15} w{bits} a{activations} {name:14} {accuracy_[0]:7.2%} +- "
            f"{accuracy_[1]:.2%}   "
            f"{error[0]:.1e} +- {error[1]:.0e}   {100 * snap[0]:+.2f} +- {100 * snap[1]:.2f} points"
        )


def draw(values: dict[str, Any]) -> Path:
    """Draws accuracy and error over the weight bits into `docs/pictures/msqe.png`."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    _draw_methods(axes, summary(values))
    axes[0].axhline(
        100 * values["mobile_fashion float"]["accuracy"], color="grey", lw=1, ls="--", label="float"
    )
    axes[0].set_ylabel("test accuracy, %")
    axes[1].set_ylabel("squared error to the grid, relative")
    axes[1].set_yscale("log")
    for axis in axes:
        axis.set_xlabel("weight bits (activations 8)")
        axis.set_xticks((1, 2, 3, 4, 8))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    path = Path(__file__).parents[1] / "docs" / "pictures" / "msqe.png"
    figure.savefig(path, dpi=80)
    return path


def _draw_methods(axes: Any, rows: dict[tuple[int | str, ...], Any]) -> None:
    """Draws a line per method, a little apart so that their bars do not cover each other."""
    for name in (*MAIN, "ste_norms", "learned_norms", "lsq_norms"):
        picked = {
            b: row
            for (task, b, a, n), row in rows.items()
            if (task, a, n) == ("mobile_fashion", 8, name)
        }
        widths = sorted(picked)
        if not widths:
            continue
        for axis, key, factor in zip(
            axes, ("accuracy", "relative_error"), (100.0, 1.0), strict=True
        ):
            mean, spread = (np.array([factor * picked[b][key][i] for b in widths]) for i in (0, 1))
            shift = 0.03 * (list(METHODS).index(name) - 3)
            axis.errorbar(
                np.array(widths) + shift,
                mean,
                spread,
                marker="o",
                ms=4,
                lw=1.2,
                capsize=2,
                label=name,
            )


def main() -> None:
    """Measures, writes `results/msqe.json`, prints the table and draws `docs/pictures/msqe.png`."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--plot", action="store_true", help="measures nothing, draws what is there")
    options = parser.parse_args()
    header = {
        "seeds": list(SEEDS),
        "what_seeds_vary": "the samples trained on and their order; the float network is one",
        "samples": SAMPLES,
        "epochs": EPOCHS,
        "batch": BATCH,
        "rate": RATE,
        "samples_of_the_snap": FEW,
        "samples_of_the_norms": NORM_SAMPLES,
        "strengths": {name: list(method.strengths) for name, method in METHODS.items()},
        "strengths_chosen_at": "mobile_fashion, 2-bit weights, 8-bit activations, seed 0, "
        "validation split",
    }
    cells = Cells("msqe", header)
    for task, bits, activations, names in () if options.plot else GRID:
        cells(
            f"{task} float",
            lambda task=task: {"accuracy": accuracy(float_model(task), splits(task)[2])},
        )
        for name in names:
            measure_row(cells, task, bits, activations, name)
    print_table(cells.values)
    print(f"drawn: {draw(cells.values)}")


if __name__ == "__main__":
    main()
