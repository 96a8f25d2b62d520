"""How long the integer simulator takes: `python -m benchmarks.simulator_speed`.

MobileNetV1 and V2 at 128, random weights, calibrated on random images. `predict` of the float
model, of the quantized one and of `integer_model` take turns in one run, on the same images;
`differing` counts the outputs in which `integer_model` is not the numpy simulator.
"""

import json
import time
from functools import partial
from typing import Any

import keras
import numpy as np

import tfqreg as tq
from tfqreg.export import integer_model, lower, simulate

from .helpers.arguments import benchmark_parser
from .helpers.record import write_result
from .helpers.timing import alternate

NETWORKS = {
    "MobileNetV1": keras.applications.MobileNet,
    "MobileNetV2": keras.applications.MobileNetV2,
}
# Pixels: the 224 of ImageNet would take three times as long.
SIZE = 128


def measure(build: Any, batches: int, rounds: int, batch_size: int) -> dict[str, Any]:
    """Returns the median seconds of each model's `predict`, and what the simulators disagree in."""
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((batches * batch_size, SIZE, SIZE, 3), np.float32)
    # Raw logits: a softmax of random weights is the same everywhere.
    model = build((SIZE, SIZE, 3), weights=None, classifier_activation=None)
    quantized = tq.calibrate(
        tq.quantize(model), images[:batch_size], batch_size=batch_size, verbose=0
    )
    models = {"float": model, "quantized": quantized, "integer": integer_model(quantized)}

    def predict(network: keras.Model) -> list[float]:
        start = time.perf_counter()
        network.predict(images, batch_size=batch_size, verbose=0)
        return [time.perf_counter() - start]

    runs = {name: partial(predict, network) for name, network in models.items()}
    medians = alternate(runs, rounds, model.name)
    found = models["integer"].predict(images[:batch_size], batch_size=batch_size, verbose=0)
    graph = lower(quantized, float_io=True)
    expected = simulate(graph, [images[:batch_size]], keep=set(graph.outputs))[graph.outputs[0]]
    return {
        "images": len(images),
        "median_seconds": medians,
        "integer_over_float": medians["integer"] / medians["float"],
        "compared_elements": expected.size,
        "differing_elements": int((found != expected).sum()),
    }


def main() -> None:
    """Measures and writes `results/simulator_speed.json`."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--batches", type=int, default=4, help="batches per predict; 4 by default")
    parser.add_argument(
        "--batch-size", type=int, default=32, help="images per batch; 32 by default"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns timed; 5 by default")
    options = parser.parse_args()
    result = {
        "input": SIZE,
        **vars(options),
        "networks": {
            name: measure(build, options.batches, options.rounds, options.batch_size)
            for name, build in NETWORKS.items()
        },
    }
    path = write_result("simulator_speed", result)
    print(json.dumps(result, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
