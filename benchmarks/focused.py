"""Focused quantization from float to phone: `python -m benchmarks.focused`.

Each network of `benchmarks.floats` is pruned by surgery once; from that checkpoint start the 5-bit
variants: focused by the separation of each kernel (mixed), powers of two in all kernels (shift),
two means in all that have them (recentred) and uniform levels with MSQE (uniform). The mixed one
then gets 8-bit activations with powers of two for scales, becomes an integer `.tflite` and a
container. `--overhead` times the training step and the refit instead.
"""

import statistics
import time
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfqreg as tq
from tfqreg.export import export_tflite, inspect, verify
from tfqreg.export.container.inspection.huffman import huffman_bytes
from tfqreg.export.verification.runtimes import run
from tfqreg.export.verification.samples import graph_inputs
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers.mixture import fit_mixture
from tfqreg.quantizers.power_of_two import kept

from .floats import BATCH, TASKS, accuracy, float_model, train
from .helpers.arguments import add_names, benchmark_parser
from .helpers.data import Split
from .helpers.figures import accuracy_of, entropy_bytes, exactness
from .helpers.record import Cells

MODELS = Path("build/focused")
PICTURE = Path("docs/pictures/focused_wsep.png")
# The paper's.
BITS = 5
# Images on which every tensor is compared.
VERIFIED = 200
# The threshold of the separation is swept on one network, with few samples: 12 trainings.
SWEPT = "mobile_colour"
SEPARATIONS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
SWEEP_SEEDS = (0, 1)
SWEEP_SAMPLES = 10_000
VARIANTS = {
    "mixed": tq.Focused(BITS),
    "shift": tq.Focused(BITS, separation=float("inf")),
    "recentred": tq.Focused(BITS, separation=0.0),
    "uniform": tq.Uniform(BITS),
}
# ImageNet top-1 after each stage, zeros (%) and compression of the 5-bit weights (Zhao, Gao et al.
# 2019), for the header of the results.
PAPER = {
    "resnet18": {
        "float": 68.94,
        "pruned": 69.24,
        "5 bit": 68.36,
        "8-bit activations": 67.89,
        "zeros": 74.86,
        "CR": 16.33,
    },
    "resnet50": {"float": 75.58, "pruned": 75.10, "5 bit": 74.86, "zeros": 82.70, "CR": 18.08},
}


@dataclass(frozen=True)
class Plan:
    """How a network is pruned and trained.

    Args:
        sparsity: fraction of the weights to prune.
        dense: pattern of the layers that keep all weights.
        prune_epochs, epochs: of pruning, and of training with quantized weights.
        seeds: of the latter.
        samples: to train on.
    """

    sparsity: float
    dense: str
    prune_epochs: int
    epochs: int
    seeds: tuple[int, ...]
    samples: int


PLANS = {
    "lenet5": Plan(0.92, "^conv1$", 4, 3, (0, 1), 20_000),
    "mobile_colour": Plan(0.33, "depthwise", 4, 3, (0,), 30_000),
    "resnet": Plan(0.80, "^stem_conv$", 4, 3, (0,), 30_000),
}


@cache
def data(name: str) -> tuple[Split, Split, Split]:
    """Returns the splits of a network's task, the first of them cut to the samples of its plan."""
    (x, y), validation, test = TASKS[name].load()
    samples = PLANS[name].samples
    return (x[:samples], y[:samples]), validation, test


def accuracies(model: keras.Model, name: str) -> dict[str, float]:
    """Returns the accuracy on the validation and the test split."""
    _, validation, test = data(name)
    return {
        "validation_accuracy": accuracy(model, validation),
        "test_accuracy": accuracy(model, test),
    }


def zeros(model: keras.Model) -> float:
    """Returns the fraction of zeros among the codes of all kernels."""
    codes = list(codes_of(model).values())
    return 1.0 - sum(map(np.count_nonzero, codes)) / sum(c.size for c in codes)


def codes_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the codes of a model's kernels by "layer/kernel"."""
    return {
        f"{layer.name}/{name}": codes
        for layer in quantized_layers(model)
        for name, (codes, _) in layer.encode().items()
    }


def prune(name: str) -> dict[str, Any]:
    """Prunes the float network by surgery in float, and saves it with its zeros."""
    plan = PLANS[name]
    keras.utils.set_random_seed(0)
    rules = [tq.Rule(plan.dense), tq.Rule(".*", prune=tq.Surgery(plan.sparsity))]
    model = tq.quantize(float_model(name), rules, activations=None)
    for layer in quantized_layers(model):  # all in float, those that keep their weights as well
        for kernel, _ in layer.kernel_pairs():
            kernel.start_pruning()
    start = time.perf_counter()
    stages = tq.Stages(prune_until=1.0, ramp_until=0.6, settle_from=1.0)
    train(model, data(name)[0], 1e-3, plan.prune_epochs, [stages])
    seconds = time.perf_counter() - start
    plain = tq.strip(model)
    kernels = []
    for layer in quantized_layers(model):
        for attribute, (kernel, variable) in zip(layer.kernels, layer.kernel_pairs(), strict=True):
            kernels.append(np.asarray(kernel.surviving(variable)))
            getattr(plain.get_layer(layer.name), attribute).assign(kernels[-1])
    MODELS.mkdir(parents=True, exist_ok=True)
    plain.save(MODELS / f"{name}_pruned.keras")
    sparsity = 1.0 - sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels)
    return {
        **accuracies(plain, name),
        "sparsity": sparsity,
        "epochs": plan.prune_epochs,
        "seconds": round(seconds),
    }


def wrapped(name: str, quantizer: Any, activations: Any) -> keras.Model:
    """Returns the pruned network with its kernels wrapped; masks keep its zeros in training."""
    plan = PLANS[name]
    regularizer = tq.MSQE() if isinstance(quantizer, tq.Uniform) else None
    pruned = keras.models.load_model(MODELS / f"{name}_pruned.keras", compile=False)
    rules = [
        tq.Rule(plan.dense, quantizer, regularizer),
        tq.Rule(".*", quantizer, regularizer, tq.Surgery(0.0)),
    ]
    return tq.quantize(pruned, rules, activations)


def train_variant(
    name: str, variant: str, seed: int, cells: Cells, file: str = ""
) -> dict[str, Any]:
    """Trains one of VARIANTS for as long as the plan says.

    If mixed recentred all kernels, recentred is that run.
    """
    mixed = cells.values.get(f"{name}/mixed/{seed}")
    if (
        variant == "recentred"
        and mixed
        and all(kernel["recentred"] for kernel in mixed["kernels"].values())
    ):
        return mixed
    return quantize(name, VARIANTS[variant], seed, PLANS[name].epochs, file)


def quantize(
    name: str, quantizer: Any, seed: int, epochs: int, file: str = "", samples: int | None = None
) -> dict[str, Any]:
    """Trains the pruned network with quantized weights; returns its figures."""
    keras.utils.set_random_seed(seed)
    model = wrapped(name, quantizer, activations=None)
    callbacks: list[Any] = [tq.Stages(prune_until=0.0, ramp_until=0.0)]
    if quantizer.incremental:
        callbacks.append(tq.Incremental(start=0.0))
    start = time.perf_counter()
    x, y = data(name)[0]
    train(model, (x[:samples], y[:samples]), 1e-3, epochs, callbacks)
    seconds = time.perf_counter() - start
    if file:
        model.save_weights(MODELS / file)
    result = {
        **accuracies(model, name),
        "zeros": zeros(model),
        "entropy_bytes": round(sum(map(entropy_bytes, codes_of(model).values()))),
        "epochs": epochs,
        "seconds": round(seconds),
    }
    return result | ({"kernels": kinds(model)} if quantizer.incremental else {})


def kinds(model: keras.Model) -> dict[str, dict[str, Any]]:
    """Returns, by kernel, the surviving weights, their separation W, whether they are recentred."""
    rows = {}
    for layer in quantized_layers(model):
        for kernel, variable in layer.kernel_pairs():
            assert isinstance(kernel.quantizer, tq.Focused)
            w = np.asarray(variable)
            w = w[kept(w, kernel.mask)]
            mixture = fit_mixture(w)
            rows[f"{layer.name}/{kernel.name}"] = {
                "survivors": w.size,
                "weights": kernel.count,
                "separation": None if mixture is None else round(mixture.separation, 3),
                "recentred": kernel.quantizer.is_recentred(kernel.state),
            }
    return rows


def integer(name: str) -> dict[str, Any]:
    """Adds 8-bit activations to the mixed network, trains one epoch, exports and verifies it."""
    keras.utils.set_random_seed(0)
    (x, y), _, test = data(name)
    weights_only = wrapped(name, VARIANTS["mixed"], activations=None)
    weights_only.load_weights(MODELS / f"{name}_mixed.weights.h5")
    model = wrapped(name, VARIANTS["mixed"], tq.LearnedRange(8, power_of_two=True))
    values = {variable.path: variable for variable in weights_only.variables}
    for variable in model.variables:
        if variable.path in values:
            variable.assign(values[variable.path])
    train(model, (x, y), 1e-4, 1)
    paths = MODELS / f"{name}.tflite", MODELS / f"{name}.tqw"
    graph = export_tflite(model, paths[0], container=paths[1])
    tflite = paths[0].read_bytes()
    scores = run(tflite, graph_inputs(graph, test[0]), "litert")[graph.outputs[0]]
    report = verify(model, paths[0], test[0][:VERIFIED])
    return {
        **accuracies(model, name),
        "tflite_test_accuracy": accuracy_of(scores, test[1]),
        **exactness(report),
        **sizes(model, float_model(name), tflite, paths[1].read_bytes()),
    }


def sizes(
    model: keras.Model, plain: keras.Model, tflite: bytes, container: bytes
) -> dict[str, Any]:
    """Returns bytes of the files, of the kernels' streams with tables, and of Huffman codes."""
    coded = codes_of(model)
    streams = {
        t.name: t.coded_bytes + t.table_bytes for t in inspect(container).tensors if t.name in coded
    }
    weights = sum(codes.size for codes in coded.values())
    huffman = sum(huffman_bytes(coded[name]) for name in streams)
    stream = sum(streams.values())
    return {
        "sparsity": zeros(model),
        "weights": weights,
        "float_bytes": 4 * plain.count_params(),
        "tflite_bytes": len(tflite),
        "container_bytes": len(container),
        "compression_ratio": 4 * plain.count_params() / len(container),
        "kernel_stream_bytes": stream,
        "kernel_compression_ratio": 4 * sum(coded[name].size for name in streams) / stream,
        "huffman_bytes": round(huffman),
        "fewer_than_huffman": 1.0 - stream / huffman,
        "kernels_without_stream": sorted(set(coded) - set(streams)),
    }


def sweep(cells: Cells) -> None:
    """Trains one network for an epoch at several thresholds of the separation, and draws it."""
    for seed in SWEEP_SEEDS:
        for separation in SEPARATIONS:
            quantizer = tq.Focused(BITS, separation)
            arguments = {
                "quantizer": quantizer,
                "seed": seed,
                "epochs": 1,
                "samples": SWEEP_SAMPLES,
            }
            cells(
                f"sweep/{SWEPT}/{separation}/{seed}",
                lambda arguments=arguments: quantize(SWEPT, **arguments),
            )
        plot(cells)


def plot(cells: Cells) -> None:
    """Draws the sweep."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.5))
    means = []
    for separation in SEPARATIONS:
        keys = [f"sweep/{SWEPT}/{separation}/{seed}" for seed in SWEEP_SEEDS]
        runs = [cells.values[key] for key in keys if key in cells.values]
        values = [100 * run["validation_accuracy"] for run in runs]
        means.append(statistics.mean(values))
        axis.vlines(separation, min(values), max(values), color="tab:blue")
        count = statistics.mean(
            sum(k["recentred"] for k in run["kernels"].values()) for run in runs
        )
        place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center"}
        axis.annotate(f"{count:g}", (separation, max(values)), **place)
    axis.plot(SEPARATIONS, means, "o-", color="tab:blue")
    axis.set_xlabel(
        "separation from which a kernel is recentred; above the points: kernels recentred"
    )
    axis.set_ylabel("validation accuracy (%)")
    axis.margins(y=0.2)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def measure(names: list[str], cells: Cells) -> None:
    """Measures every stage of the networks, then the variants with all seeds."""
    for name in names:
        cells(f"{name}/float", lambda name=name: accuracies(float_model(name), name))
        cells(f"{name}/pruned", lambda name=name: prune(name))
        cells(
            f"{name}/mixed/0",
            lambda name=name: train_variant(name, "mixed", 0, cells, f"{name}_mixed.weights.h5"),
        )
        cells(f"{name}/integer", lambda name=name: integer(name))
    for name in names:
        for seed, variant in product(PLANS[name].seeds, VARIANTS):
            cells(
                f"{name}/{variant}/{seed}",
                lambda which=(name, variant, seed): train_variant(*which, cells),
            )


def main() -> None:
    """Measures what `results/focused.json` lacks."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "names", PLANS)
    parser.add_argument("--overhead", action="store_true", help="time the step instead")
    parser.add_argument(
        "--rounds", type=int, default=8, help="turns of each run with --overhead; 8 by default"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="sweep the separation instead, and draw the picture"
    )
    options = parser.parse_args()
    if options.overhead:
        from .focused_overhead import overhead

        overhead(options.rounds)
        return
    plans = {name: vars(plan) for name, plan in PLANS.items()}
    header = {
        "bits": BITS,
        "batch": BATCH,
        "plans": plans,
        "sweep_samples": SWEEP_SAMPLES,
        "paper": PAPER,
    }
    cells = Cells("focused", header)
    if options.sweep:
        sweep(cells)
        return
    measure(options.names, cells)


if __name__ == "__main__":
    main()
