"""Sinusoidal regularization, bits preset and learned: `python -m benchmarks.sinareq [NETWORK ...]`.

Preset bits: networks that were trained in float go on for an epoch with DoReFa or WRPN weights,
with and without SinReQ. Learned bits: SinAReQ, with float weights in the forward pass until the
bits freeze (faithful) or with the loss reaching the bits (loss-aware), against the same width in
all layers; the size is that of the container.

Both sides of a comparison see the same images in the same order. Learning rate and strength were
chosen on the validation data of one network and seed, with as many tries on either side (`--tune`).
A seed decides which images are seen and in which order: the float network is the same for all.
`--overhead` measures the time of a step alone, `--report` writes summary and picture from the cells
there are.
"""

import functools
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

import tfqreg as tq
from tfqreg.export import export_tflite
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers import Quantizer

from .floats import BATCH, TASKS, accuracy, compiled, float_model
from .helpers.architectures import lenet5, mobile_blocks
from .helpers.arguments import add_names, benchmark_parser
from .helpers.data import Split
from .helpers.record import Cells, write_result
from .helpers.sinareq_report import report
from .helpers.timing import NEVER, alternate, trainer, with_ratios

SEEDS = (0, 1, 2)
# Images of the one epoch: a network that is trained already soon settles.
PRESET = {
    "two_conv": 6400,
    "mobile_fashion": 6400,
    "vgg": 6400,
    "lenet5": 3200,
}
QUANTIZERS = {"DoReFa": tq.DoReFa, "WRPN": tq.WRPN}
# Preset widths: the fewer, the longer a network trains.
WIDTHS = {"two_conv": (2, 3, 4, 5), "mobile_fashion": (2, 3, 4), "vgg": (3, 4), "lenet5": (2, 3)}
# Networks measured with 4-bit activations as well.
FOUR_BIT_ACTIVATIONS = ("two_conv",)
# The best of TUNING.
RATE, STRENGTH = {"with": 2e-3, "without": 2e-3}, 10.0
# Candidates (rate, strength), four on either side.
TUNING = {
    "without": [(rate, 0.0) for rate in (5e-4, 1e-3, 2e-3, 4e-3)],
    "with": [(rate, strength) for rate in (1e-3, 2e-3) for strength in (1.0, 10.0)],
}
LEARNED = {"two_conv": 12800, "mobile_fashion": 6400}  # images of each of the two epochs
HOMOGENEOUS = {"two_conv": (2, 3, 4, 5), "mobile_fashion": (3, 4, 5)}
TARGETS = {"two_conv": (1.5, 2.0, 3.0), "mobile_fashion": (2.0, 3.0)}  # bits without the sign
# Bits averaged over kernels, as in the method, or over weights, as the size asks; a pace at which
# bits move within two short epochs.
COUNT, LEARNED_STRENGTH, PACE = {"faithful": "kernels", "loss-aware": "weights"}, 1.0, 80.0
# Of the test split: enough for 0.5 points of standard error at 90 %.
TESTED = 4000
# Averages over a few hundred steps: Keras' 0.99 would remember the float network.
MOMENTUM = 0.9
HEADER: dict[str, Any] = {
    "seeds": SEEDS,
    "what_a_seed_varies": "the images and their order, after one float network",
    "batch": BATCH,
    "images_an_epoch": {"preset": PRESET, "learned": LEARNED},
    "epochs": {"preset": 1, "learned": 2},
    "first_test_images": TESTED,
    "rate": RATE,
    "tried_on_validation": {
        side: [{"rate": r, "strength": s} for r, s in tries] for side, tries in TUNING.items()
    },
    "strength": {"preset": STRENGTH, "learned": LEARNED_STRENGTH},
    "beta_counted_over": COUNT,
    "pace": PACE,
}


@functools.cache
def data(name: str) -> tuple[Split, Split, Split]:
    """Returns the splits of a task."""
    return TASKS[name].load()


class Trial:
    """A quantized network, built and traced once and set back to its start for every run.

    Args:
        name: key of TASKS.
        rules, activations: as for `tfqreg.quantize`.
        images: number of images that an epoch sees.
        epochs: of a run.
        settle_from: fraction of the training after which the bits are frozen and all weights
            quantized.
    """

    def __init__(
        self,
        name: str,
        rules: list[tq.Rule],
        activations: int | None,
        images: int,
        epochs: int = 1,
        settle_from: float = 0.85,
    ) -> None:
        self.name, self.images, self.epochs, self.settle_from = name, images, epochs, settle_from
        self.model = tq.quantize(float_model(name), rules, activations)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = MOMENTUM
        self.rate = keras.Variable(0.0, trainable=False)
        compiled(self.model, self.rate, epochs * images // BATCH)  # type: ignore[arg-type]
        self.model.optimizer.build(self.model.trainable_variables)
        self.variables = [*self.model.variables, *self.model.optimizer.variables]
        self.start = [keras.ops.convert_to_numpy(variable) for variable in self.variables]

    def run(self, seed: int, rate: float, split: Split) -> dict[str, Any]:
        """Trains from the start along a cosine from `rate`; returns the accuracy on `split`."""
        begin = time.process_time()
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)
        self.rate.assign(rate)
        keras.utils.set_random_seed(seed)
        x, y = data(self.name)[0]
        chosen = np.random.default_rng(seed).permutation(len(x))[: self.images]
        callbacks = [tq.Stages(settle_from=self.settle_from)]
        self.model.fit(
            x[chosen],
            y[chosen],
            batch_size=BATCH,
            epochs=self.epochs,
            verbose=0,
            callbacks=callbacks,
        )
        return {
            "accuracy": round(accuracy(self.model, split), 4),
            "processor_seconds": round(time.process_time() - begin, 1),
        }


def preset_trial(
    name: str, quantizer: Quantizer, activations: int | None
) -> tuple[Trial, tq.SinReQ]:
    """Returns the trial of one width in all layers, and its regularizer, to set its strength."""
    trial = Trial(name, [tq.Rule(".*", quantizer, tq.SinReQ())], activations, PRESET[name])
    penalty = quantized_layers(trial.model)[0].regularizer
    assert isinstance(penalty, tq.SinReQ)
    return trial, penalty


def preset(name: str, cells: Cells, activations: int | None) -> None:
    """Measures one network with all quantizers, widths and seeds, with and without SinReQ."""
    for width, kind in tqdm(
        [(width, kind) for width in WIDTHS[name] for kind in QUANTIZERS], desc=name
    ):
        sides = itertools.product(SEEDS, RATE)
        keys = {
            preset_key(name, activations, kind, width, side, seed): (side, seed)
            for seed, side in sides
        }
        if keys.keys() <= cells.values.keys():
            continue
        trial, penalty = preset_trial(name, QUANTIZERS[kind](width), activations)
        for key, (side, seed) in keys.items():
            penalty.strength = STRENGTH if side == "with" else 0.0
            cells(
                key,
                lambda side=side, seed=seed, trial=trial: trial.run(seed, RATE[side], tested(name)),
            )


def preset_key(
    name: str, activations: int | None, kind: str, width: int, side: str, seed: int
) -> str:
    """Returns the key of a cell."""
    grid = f"{activations} bits" if activations else "float"
    return f"{name}, activations {grid}, {kind} {width} bits, {side} SinReQ, seed {seed}"


def tune(cells: Cells, name: str = "two_conv", width: int = 3) -> None:
    """Measures every candidate of either side on one network's validation data, with seed 0."""
    for kind, quantizer in QUANTIZERS.items():
        trial, penalty = preset_trial(name, quantizer(width), None)
        for side, tries in TUNING.items():
            for rate, strength in tries:
                penalty.strength = strength
                key = f"tuning, {kind}, {side} SinReQ, rate {rate:g}, strength {strength:g}"
                cells(key, lambda rate=rate, trial=trial: trial.run(0, rate, data(name)[1]))


def grids(name: str) -> dict[str, tuple[Quantizer, tq.SinReQ]]:
    """Returns quantizer and regularizer of each assignment of bits, equal or learned."""
    found: dict[str, tuple[Quantizer, tq.SinReQ]] = {
        f"all {bits} bits": (tq.WRPN(bits), tq.SinReQ(STRENGTH)) for bits in HOMOGENEOUS[name]
    }
    for target in TARGETS[name]:
        for mode, count in COUNT.items():
            quantizer = tq.LearnedBits(largest=6, loss_aware=mode == "loss-aware", pace=PACE)
            penalty = tq.SinAReQ(
                target, strength=LEARNED_STRENGTH, rise=0.05, fall=0.55, count=count
            )
            found[f"{mode}, average {target + 1:g} bits"] = quantizer, penalty
    return found


def learned(name: str, cells: Cells) -> None:
    """Measures one network with each assignment of bits, all over two epochs."""
    for label, (quantizer, penalty) in tqdm(grids(name).items(), desc=f"{name}, learned bits"):
        keys = {seed: f"{name}, {label}, seed {seed}" for seed in SEEDS}
        if set(keys.values()) <= cells.values.keys():
            continue
        trial = Trial(
            name, [tq.Rule(".*", quantizer, penalty)], 8, LEARNED[name], epochs=2, settle_from=0.6
        )

        def measure(seed: int, trial: Trial = trial) -> dict[str, Any]:
            return trial.run(seed, RATE["with"], tested(name)) | size_and_widths(trial.model)

        for seed, key in keys.items():
            cells(key, lambda seed=seed, measure=measure: measure(seed))


def size_and_widths(model: keras.Model) -> dict[str, Any]:
    """Returns the bytes of the container, and the bits of each kernel's codes with their sign."""
    with tempfile.TemporaryDirectory() as folder:
        container = Path(folder) / "m.tqw"
        export_tflite(model, Path(folder) / "m.tflite", container)
        size = container.stat().st_size
    figures = tq.kernel_figures(model)
    betas = {kernel: round(row["beta"], 2) for kernel, row in figures.items() if "beta" in row}
    widths = {kernel: int(row["bits"]) for kernel, row in figures.items()}
    return {"container_bytes": size, "widths": widths, "betas": betas}


def tested(name: str) -> Split:
    """Returns the test images that are looked at."""
    x, y = data(name)[2]
    return x[:TESTED], y[:TESTED]


def overhead(rounds: int) -> None:
    """Writes how much longer a step takes with the sine on float weights."""
    figures = {}
    for build in (lenet5, mobile_blocks):
        keras.utils.set_random_seed(0)
        model = build()
        penalties = {"SinReQ": tq.SinReQ(), "SinAReQ": tq.SinAReQ()}
        runs = {"float": trainer(keras, compiled(model, 1e-4, NEVER))}
        for name, penalty in penalties.items():
            q = tq.quantize(model, [tq.Rule(".*", tq.LearnedBits(), penalty)], None)
            runs[name] = trainer(keras, compiled(q, 1e-4, NEVER), stages)
        figures[model.name] = with_ratios(alternate(runs, rounds, model.name))
    path = write_result("sinareq_overhead", {"batch": BATCH, "rounds": rounds, "networks": figures})
    print(path.read_text())


def stages() -> list[keras.callbacks.Callback]:
    """Returns the callback of so long a training that the weights stay float and the sine acts."""
    return [tq.Stages(settle_from=1.0, total_steps=NEVER)]


def main() -> None:
    """Measures what is not measured yet, and writes `results/sinareq.json` and its picture."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "networks", PRESET)
    parser.add_argument(
        "--tune", action="store_true", help="measure the candidates for rate and strength alone"
    )
    parser.add_argument("--overhead", action="store_true", help="measure the time of a step alone")
    parser.add_argument(
        "--report", action="store_true", help="write summary and picture of the cells there are"
    )
    options = parser.parse_args()
    if options.overhead:
        overhead(rounds=8)
        return
    cells = Cells("sinareq", HEADER)
    if options.report:
        report(cells)
        return
    if options.tune:
        tune(cells)
        return
    for name in options.networks:
        preset(name, cells, None)
        if name in LEARNED:
            learned(name, cells)
        if name in FOUR_BIT_ACTIVATIONS:
            preset(name, cells, 4)
        report(cells)


if __name__ == "__main__":
    main()
