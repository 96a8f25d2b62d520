"""How small depthwise networks get: `python -m benchmarks.mobile_record [CELL ...]`.

At most a point of accuracy may be lost. Every cell is one call of `tfqreg.recipes.smallest` on a
MobileNet-type float net or a narrow ShuffleNet of `benchmarks.floats`, from which it learns, for
one sparsity of the 1x1 kernels and one seed; first, last and depthwise layers keep all weights, at
8 bits. The paper's ratios, 7.13 for MobileNet and 6.79 for ShuffleNet, are of networks tens of
times larger, and of ImageNet.
"""

from typing import Any

import keras

import tfqreg as tq

from .floats import TASKS, float_model
from .helpers.arguments import add_names, benchmark_parser
from .helpers.record import Cells
from .lenet_record import shipped

# Task, bits of the 1x1 kernels, fraction of them to prune.
CELLS = {
    "mobile_fashion, 4 bits, 50 %": ("mobile_fashion", 4, 0.5),
    "mobile_fashion, 3 bits, 50 %": ("mobile_fashion", 3, 0.5),
    "mobile_colour, 4 bits, 50 %": ("mobile_colour", 4, 0.5),
    "shuffle_colour, 4 bits, 50 %": ("shuffle_colour", 4, 0.5),
}
# Of pruning, and of quantized training.
EPOCHS = (3, 5)
# Images on which every tensor is compared.
VERIFIED = 200


def measured(task: str, bits: int, sparsity: float, seed: int = 0) -> dict[str, Any]:
    """Returns sizes and accuracies of one training."""
    keras.utils.set_random_seed(seed)
    train, validation, test = TASKS[task].load()
    model = float_model(task)
    rules = [
        tq.Rule(
            "pointwise|squeeze|expand", tq.Uniform(bits), tq.Rate(), tq.RateDistortion(sparsity)
        ),
        tq.Rule(".*", tq.Uniform(8), tq.MSQE()),
    ]
    small = tq.recipes.smallest(model, train[0], keep=1.0, rules=rules, epochs=EPOCHS, verbose=2)
    return shipped(model, small, validation, test, VERIFIED)


def main() -> None:
    """Measures the cells named, all by default."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "cells", CELLS)
    cells = Cells("mobile_record", {"seed": 0, "epochs": EPOCHS})
    for name in parser.parse_args().cells:
        cells(name, lambda name=name: measured(*CELLS[name]))


if __name__ == "__main__":
    main()
