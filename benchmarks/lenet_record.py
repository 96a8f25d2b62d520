"""How small LeNet-5 gets: `python -m benchmarks.lenet_record [CELL ...]`.

Every cell is one call of `tfqreg.recipes.smallest` from the float net of
`benchmarks.lenet_teacher`, for one target of the container's bytes and one seed. The seeds vary all
but the float net. The test split is looked at once per
cell. `--plot` draws the picture alone.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfqreg as tq
from tfqreg.export import container_size, export_tflite, verify
from tfqreg.layers.queries import quantized_layers

from .demo import accuracies, sizes
from .floats import accuracy, float_model
from .helpers.arguments import add_names, benchmark_parser
from .helpers.data import Split, mnist
from .helpers.figures import exactness
from .helpers.record import RESULTS, Cells
from .lenet_teacher import NAME, shifted

# Images on which every tensor is compared.
VERIFIED = 500
SEEDS = (0, 1, 2)
# By the container's bytes: the fraction of the float net's weights in the units that stay, the
# fraction of these that pruning starts with, and the epochs of pruning and of quantized training.
# The smallest trains longest.
TARGETS: dict[int, dict[str, Any]] = {
    2550: {"keep": 0.06, "sparsity": 0.91, "epochs": (40, 80)},
    3500: {"keep": 0.08, "sparsity": 0.9, "epochs": (24, 48)},
    5200: {"keep": 0.1, "sparsity": 0.86, "epochs": (24, 48)},
}


def measured(target: int, seed: int) -> dict[str, Any]:
    """Returns sizes and accuracies of one training."""
    keras.utils.set_random_seed(seed)
    train, validation, test = mnist()
    teacher, random, start = float_model(NAME), np.random.default_rng(seed), time.perf_counter()
    small = tq.recipes.smallest(
        teacher,
        train[0],
        target_bytes=target,
        size=container_size,
        augment=lambda images: shifted(images, random),
        verbose=2,
        **TARGETS[target],
    )
    seconds = round(time.perf_counter() - start, 1)
    figures = shipped(teacher, small, validation, test, VERIFIED)
    return {
        **figures,
        "stream_ratio": figures["float_bytes"] / figures["weight_stream_bytes"],
        "units": [layer.layer.kernel.shape[-1] for layer in quantized_layers(small)],
        "weights": _alive(small),
        "seconds": seconds,
    }


def shipped(
    teacher: keras.Model, small: keras.Model, validation: Split, test: Split, verified: int
) -> dict[str, Any]:
    """Returns accuracies and sizes of a model as it ships, with scales in bfloat16.

    Args:
        teacher: the float model.
        small: the quantized one.
        validation, test: the splits.
        verified: images of the validation split on which every tensor is compared.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("model.tflite", "model.tqw")]
        graph = export_tflite(small, paths[0], container=paths[1], scale_dtype="bfloat16")
        tflite, container = (path.read_bytes() for path in paths)
        report = verify(small, paths[0], validation[0][:verified])
    tested = accuracies((teacher, small), graph, tflite, test)
    return {
        "validation_accuracy": accuracy(small, validation),
        **{f"test_{name}": value for name, value in tested.items()},
        **exactness(report),
        **sizes(teacher, tflite, container),
    }


def _alive(model: keras.Model) -> int:
    layers = quantized_layers(model)
    return sum(
        int(np.count_nonzero(codes)) for layer in layers for codes, _ in layer.encode().values()
    )


def plot(cells: dict[str, Any], header: dict[str, Any], path: Path) -> None:
    """Draws validation accuracy over the container's bytes, all cells."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    sizes_kb = [cell["container_bytes"] / 1e3 for cell in cells.values()]
    axes.plot(
        sizes_kb,
        [100 * cell["validation_accuracy"] for cell in cells.values()],
        "o",
        label="smallest(), one seed",
    )
    for key, style, label in (
        ("teacher", "-", "float net, shifts and dropout"),
        ("plain_float", ":", "plain float net"),
    ):
        axes.axhline(
            100 * header[f"{key}_validation_accuracy"], color="black", ls=style, lw=0.8, label=label
        )
    axes.set(
        xlabel="container (kB)",
        ylabel="validation accuracy (%)",
        title="LeNet-5 on MNIST; in float 1,724 kB",
    )
    axes.set(xlim=(0, 1.15 * max(sizes_kb)), ylim=(97.5, 99.8))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measures the cells named, all by default, and draws them."""
    parser = benchmark_parser(__doc__)
    names = [f"{target}/{seed}" for target in TARGETS for seed in SEEDS]
    add_names(parser, "cells", names)
    parser.add_argument(
        "--plot", action="store_true", help="draws what is there, and trains nothing"
    )
    options = parser.parse_args()
    _, validation, test = mnist()
    header: dict[str, Any] = {"targets": TARGETS}
    for key, name in (("teacher", NAME), ("plain_float", "lenet5")):
        model = float_model(name)
        header[f"{key}_validation_accuracy"] = accuracy(model, validation)
        header[f"{key}_test_accuracy"] = accuracy(model, test)
    cells = Cells("lenet_record", header)
    for name in () if options.plot else options.cells:
        target, seed = map(int, name.split("/"))
        cells(name, lambda target=target, seed=seed: measured(target, seed))
    plot(
        json.loads((RESULTS / "lenet_record.json").read_text())["cells"],
        header,
        Path("docs/pictures/lenet_record.png"),
    )


if __name__ == "__main__":
    main()
