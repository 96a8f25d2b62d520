"""What portability costs in accuracy: `python -m benchmarks.portable`.

LeNet-5 on MNIST, and a BatchNorm, depthwise and residual network on Fashion-MNIST: trained in
float, then quantized and trained on. Test accuracy of the float model and, by `integer_model`, of
the exported graph, of its portable form and of its INT4 form. And the fraction of the elements of
all tensors in which each interpreter differs from the simulator of XNNPACK's arithmetic (0
everywhere on the portable form) and from the simulator of its own.
"""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfqreg as tq
from tfqreg.export import integer_model, simulate, write_tflite
from tfqreg.export.export import exported_graph
from tfqreg.export.flatbuffer.write import debug_copy
from tfqreg.export.ir import Graph
from tfqreg.export.verification.compare import simulator_mode
from tfqreg.export.verification.runtimes import NOT_SIMULATED, RUNTIMES, missing, run
from tfqreg.export.verification.samples import graph_inputs

from .floats import accuracy, train
from .helpers.architectures import lenet5, mobile_blocks
from .helpers.arguments import benchmark_parser
from .helpers.data import Split, fashion_mnist, mnist
from .helpers.record import write_result

# Few: what counts is the difference between forms of one training.
FLOAT_EPOCHS, EPOCHS = 3, 1
COMPARED = 50  # samples that every interpreter runs
BITS = ((8, 8), (4, 8), (4, 4))  # of weights and activations
NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "LeNet-5, MNIST": (lenet5, mnist),
    "mobile blocks, Fashion-MNIST": (mobile_blocks, fashion_mnist),
}
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "portable": {"portable": True},
    "int4": {"storage": "int4"},
}


def differing(graph: Graph, images: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns the fraction of elements in which each interpreter differs.

    From one simulator, that of XNNPACK's arithmetic, and from the simulator of its own.
    """
    inputs, revealed = dict(graph_inputs(graph, images)), debug_copy(write_tflite(graph))
    installed = [name for name in (*RUNTIMES, *NOT_SIMULATED) if missing(name) is None]
    simulated = {
        mode: simulate(graph, inputs, mode) for mode in {"f32", *map(simulator_mode, installed)}
    }
    fractions: dict[str, dict[str, float]] = {"from_f32": {}, "from_own_simulator": {}}
    for runtime in installed:
        found = run(revealed, inputs, runtime)
        for kind, mode in zip(fractions, ("f32", simulator_mode(runtime)), strict=True):
            expected = simulated[mode]
            wrong = sum(int((found[name] != values).sum()) for name, values in expected.items())
            fractions[kind][runtime] = wrong / sum(values.size for values in expected.values())
    return fractions


def measure(model: keras.Model, test: Split) -> dict[str, Any]:
    """Returns bytes, accuracy and agreement of a quantized model's three forms."""
    found = {}
    for name, options in FORMS.items():
        graph = exported_graph(model, **options)
        found[name] = {
            "tflite_bytes": len(write_tflite(graph)),
            "accuracy": accuracy(integer_model(graph), test),
            "differing": differing(graph, test[0][:COMPARED]),
        }
    return found


def main() -> None:
    """Trains, measures and writes `results/portable.json`."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "seed": options.seed,
        "float_epochs": FLOAT_EPOCHS,
        "epochs": EPOCHS,
        "networks": {},
    }
    for name, (build, load) in NETWORKS.items():
        keras.utils.set_random_seed(options.seed)
        training, _, test = load()
        print(f"\n{name}, float")
        model = train(build(), training, 2e-3, FLOAT_EPOCHS)
        rows: dict[str, Any] = {"float_accuracy": accuracy(model, test)}
        result["networks"][name] = rows
        for weights, activations in BITS:
            bits = f"{weights}-bit weights, {activations}-bit activations"
            print(f"\n{name}, {bits}")
            quantized = tq.quantize(model, [tq.Rule("", weights=tq.Uniform(weights))], activations)
            rows[bits] = measure(
                train(quantized, training, 1e-3, EPOCHS, tq.callbacks_for(quantized)), test
            )
    path = write_result("portable", result)
    print(json.dumps(result, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
