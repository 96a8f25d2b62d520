"""How much longer a wrapped model's training step takes: `python -m benchmarks.training_overhead`.

Float and wrapped models train in turns on the same batch within one process, and the ratio of the
medians counts. The wrapped model has quantized weights and activations, MSQE and pruning, with the
callbacks a user runs; it is measured in its pruning stage and in its quantized one. TensorFlow
Model Optimization's QAT is measured the same way against tf_keras, in a process of its own.
"""

import json
import os
import subprocess
import sys
from typing import Any

from .helpers.arguments import benchmark_parser
from .helpers.timing import BATCH, NEVER, STEPS, alternate, trainer, with_ratios


def measure_tfqreg(rounds: int) -> dict[str, dict[str, float]]:
    """Returns, by network, milliseconds per step and ratios over float for both stages."""
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
    """Returns the same for TensorFlow Model Optimization's QAT on tf_keras."""
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


def main() -> None:
    """Measures both and writes `results/training_overhead.json`."""
    parser = benchmark_parser(__doc__)
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
