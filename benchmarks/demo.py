"""The main job on real digits: `python -m benchmarks.demo`, or `make demo`.

LeNet-5 is trained in float, wrapped, pruned and quantized by learnable MSQE with partial L2,
exported to an integer `.tflite`, packed into a container and compared with its simulator, element
by element.
"""

import json
import lzma
import time
import zlib
from pathlib import Path
from typing import Any

import keras

import tfqreg as tq
from tfqreg.export import export_tflite, inspect, simulate, verify
from tfqreg.export.ir import Graph
from tfqreg.export.report.html import write_report
from tfqreg.export.report.summary import format_summary, summarize
from tfqreg.export.verification.runtimes import run
from tfqreg.export.verification.samples import graph_inputs

from .floats import BATCH, compiled
from .helpers.architectures import lenet5
from .helpers.arguments import benchmark_parser
from .helpers.data import Split, mnist
from .helpers.figures import accuracy_of, exactness
from .helpers.record import versions

# Few, so that `make demo` takes minutes.
FLOAT_EPOCHS = 4
EPOCHS = 7
# Images on which every tensor is compared: the numpy simulator and each runtime compute them.
VERIFIED = 1000


def fit(
    model: keras.Model, train: Split, validation: Split, epochs: int, callbacks: Any = ()
) -> dict[str, list[float]]:
    """Trains with a progress bar and returns the history."""
    history = model.fit(
        *train,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=validation,
        callbacks=list(callbacks),
        verbose=1,
    )
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def wrapped(model: keras.Model) -> keras.Model:
    """Returns LeNet-5 with 3-bit weights, 90 to 99 % of them to be pruned.

    The first layer keeps all, at 5 bits.
    """
    grid = tq.MSQE(alpha=0.01)

    def rule(name: str, sparsity: float) -> tq.Rule:
        return tq.Rule(name, tq.Uniform(bits=3), grid, tq.PartialL2(sparsity, alpha=2.0))

    return tq.quantize(
        model,
        [
            tq.Rule("conv1", tq.Uniform(bits=5), grid),
            rule("conv2", 0.90),
            rule("fc1", 0.99),
            rule("fc2", 0.90),
        ],
        activations=8,
    )


def accuracies(
    models: tuple[keras.Model, keras.Model], graph: Graph, tflite: bytes, test: Split
) -> dict[str, float]:
    """Returns the accuracy on the test split, from float to LiteRT.

    Args:
        models: the float one and the quantized one.
        graph: what the latter is exported as.
        tflite: its bytes.
        test: the split.
    """
    x, labels = test
    inputs, output = graph_inputs(graph, x), graph.outputs[0]
    scores = {
        "float_accuracy": models[0].predict(x, batch_size=512, verbose=0),
        "keras_accuracy": models[1].predict(x, batch_size=512, verbose=0),
        "simulated_accuracy": simulate(graph, inputs, keep={output})[output],
        "tflite_accuracy": run(tflite, inputs, "litert")[output],
    }
    return {name: accuracy_of(values, labels) for name, values in scores.items()}


def sizes(model: keras.Model, tflite: bytes, container: bytes) -> dict[str, Any]:
    """Returns the sizes in bytes, and float parameter bytes over container bytes."""
    float_bytes = 4 * model.count_params()
    return {
        "float_bytes": float_bytes,
        "tflite_bytes": len(tflite),
        "tflite_deflate_bytes": len(zlib.compress(tflite, 9)),
        "tflite_xz_bytes": len(lzma.compress(tflite, preset=9 | lzma.PRESET_EXTREME)),
        "container_bytes": len(container),
        "weight_stream_bytes": inspect(container).weight_stream_bytes,
        "compression_ratio": float_bytes / len(container),
    }


def trained(
    train: Split, validation: Split, folder: Path
) -> tuple[keras.Model, keras.Model, dict[str, dict[str, list[float]]], tq.Monitor]:
    """Trains the float model and the quantized one, and saves them in `folder`.

    Returns:
        Both models, the histories of both trainings and the figures of the second.
    """
    steps = -(-len(train[0]) // BATCH)
    print(f"\nLeNet-5 in float, {FLOAT_EPOCHS} epochs")
    model = compiled(lenet5(), 1e-3, FLOAT_EPOCHS * steps)
    history = {"float": fit(model, train, validation, FLOAT_EPOCHS)}
    model.save(folder / "float.keras")
    print(f"\nPruned and quantized, {EPOCHS} epochs (the loss includes the learned penalties)")
    quantized = compiled(wrapped(model), 2e-3, EPOCHS * steps)
    monitor = tq.Monitor()
    callbacks = [*tq.callbacks_for(quantized), monitor]
    history["quantized"] = fit(quantized, train, validation, EPOCHS, callbacks)
    quantized.save(folder / "quantized.keras")
    return model, quantized, history, monitor


def main() -> None:
    """Runs the job and writes models, report and result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), help="folder; build/demo by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    options = parser.parse_args()
    folder, start = options.output, time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    train, validation, test = mnist()
    model, quantized, history, monitor = trained(train, validation, folder)
    print("\nExported and verified")
    files = folder / "model.tflite", folder / "model.tqw"
    graph = export_tflite(quantized, *files, target="android-arm64")
    tflite, container = (folder / "model.tflite").read_bytes(), (folder / "model.tqw").read_bytes()
    report = verify(quantized, folder / "model.tflite", test[0][:VERIFIED])
    print(f"{report}\n")
    result = {
        **accuracies((model, quantized), graph, tflite, test),
        **exactness(report),
        **sizes(model, tflite, container),
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start, 1),
        "versions": versions(),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    write_report(
        folder / "report.html",
        model=quantized,
        tflite=tflite,
        container=container,
        history=history,
        figures=monitor.rows,
        result=result,
    )
    print_summary(result, format_summary(summarize(tflite, container)), folder)


def print_summary(result: dict[str, Any], summary: str, folder: Path) -> None:
    """Prints what came out: a table of the model, accuracies and sizes."""
    print(summary)
    names = ("float", "keras", "simulated", "tflite")
    print(
        "\nTest accuracy  "
        + "   ".join(f"{name} {result[f'{name}_accuracy']:.4f}" for name in names)
    )
    print(
        f"{result['compression_ratio']:.1f} times smaller than float, "
        f"in {result['seconds']:.0f} s; see {folder}/"
    )


if __name__ == "__main__":
    main()
