"""What becomes of each network of the catalogue in an export: `python -m benchmarks.networks`.

Exactness on every runtime, operators on an NPU, bytes, time and memory of the export, latency.
Writes `results/networks.json` and prints the table; `--networks` measures those named anew and
keeps the others' rows, `--runtimes` their elements on the runtimes named alone. Weights and
activations have 8 bits, so that TFLiteConverter's file is the same network's.
"""

import contextlib
import io
import json
import statistics
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tqdm import tqdm

import tfqreg as tq
from tfqreg.export import export_tflite, verify
from tfqreg.export.targets.vela import compile_for_npu

from .helpers.arguments import benchmark_parser
from .helpers.catalogue import NETWORKS, Network
from .helpers.converter import full_integer
from .helpers.record import RESULTS, write_result

RUNTIMES = {
    "litert": "LiteRT",
    "litert-aarch64": "aarch64",
    "tensorflow": "TensorFlow",
    "tflite-runtime-ref": "tflite-runtime",
    "tflite-micro": "tflite-micro",
}
# An Ethos-U55 of 128 MACs per cycle.
NPU = "ethos-u55-128"
# Few, because numpy simulates every tensor of networks of up to 26 million weights.
CALIBRATION_IMAGES = 8
VERIFIED_IMAGES = 4
# The median of three is not disturbed by one slow export.
EXPORTS = 3
# For both files together, invoked in turns.
LATENCY_SECONDS = 4.0
Row = dict[str, Any]


def measure(network: Network, step: Callable[[str], None]) -> Row:
    """Returns a network's row of the table; `step` is called with what is measured next."""
    step("calibrating")
    model, quantized, images, unseen = prepared(network)
    float_bytes = 4 * model.count_params()
    row: Row = {"input": list(model.inputs[0].shape[1:]), "float_bytes": float_bytes}
    with tempfile.TemporaryDirectory() as folder:
        path, container = Path(folder, "model.tflite"), Path(folder, "model.tqw")
        step("exporting")
        row |= export_cost(quantized, path, float_bytes)
        export_tflite(quantized, path, container)
        ours = path.read_bytes()
        row |= {"tflite_bytes": len(ours), "container_bytes": container.stat().st_size}
        row["runtimes"] = exactness(quantized, path, unseen, list(RUNTIMES), step)
        step("Vela")
        row["npu"] = npu_operators(ours)
    step("TFLiteConverter")
    theirs = converter_int8(model, images)
    row["converter_bytes"] = len(theirs)
    step("latency")
    return row | latencies(ours, theirs)


def prepared(network: Network) -> tuple[keras.Model, keras.Model, np.ndarray, np.ndarray]:
    """Returns the float model, the calibrated one, the images it saw, and others."""
    model, images = network.build()
    images, unseen = images[:CALIBRATION_IMAGES], images[CALIBRATION_IMAGES:][:VERIFIED_IMAGES]
    return model, tq.calibrate(tq.quantize(model), images, verbose=0), images, unseen


def on_runtimes(network: Network, runtimes: list[str], step: Callable[[str], None]) -> Row:
    """Returns a network's exactness on the runtimes named, by name."""
    step("calibrating")
    _, quantized, _, unseen = prepared(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        export_tflite(quantized, path)
        return exactness(quantized, path, unseen, runtimes, step)


def export_cost(model: keras.Model, path: Path, float_bytes: int) -> Row:
    """Returns the median seconds of an export and the peak of Python's memory."""
    seconds = []
    for _ in range(EXPORTS):
        start = time.perf_counter()
        export_tflite(model, path)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    export_tflite(model, path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "export_seconds": statistics.median(seconds),
        "export_peak_bytes": peak_bytes,
        "export_memory_over_float_size": peak_bytes / float_bytes,
    }


def exactness(
    model: keras.Model,
    path: Path,
    images: np.ndarray,
    runtimes: list[str],
    step: Callable[[str], None],
) -> Row:
    """Returns by runtime the elements compared and differing in all tensors."""
    found: Row = {}
    for runtime in runtimes:
        step(runtime)
        found[runtime] = _on_one(model, path, images, runtime)
    return found


def _on_one(model: keras.Model, path: Path, images: np.ndarray, runtime: str) -> Row:
    """Returns the elements compared and differing in all tensors, or why the runtime refuses."""
    try:
        report = verify(model, path, images, [runtime])
    except RuntimeError as error:
        return {"refused": str(error)[-300:]}
    if runtime in report.skipped:
        return {"refused": report.skipped[runtime]}
    part = report.runtimes[runtime]
    return {
        "compared_elements": part.compared_elements,
        "differing_elements": part.mismatched_elements,
    }


def npu_operators(tflite: bytes) -> Row:
    """Returns what Vela places on the NPU and what it leaves, or why it fails."""
    try:
        report = compile_for_npu(tflite, NPU)
    except RuntimeError as error:
        return {"refused": str(error)[-300:]}
    return {
        "operators": report.operators,
        "npu_operators": report.npu_operators,
        "cpu_operators": report.cpu_operators,
        "off_chip_flash_bytes": report.off_chip_flash_bytes,
    }


def converter_int8(model: keras.Model, images: np.ndarray) -> bytes:
    """Returns TFLiteConverter's own post-training int8 file of a float model."""
    import tensorflow as tf

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return full_integer(tf.lite.TFLiteConverter.from_keras_model(model), images)


def latencies(ours: bytes, theirs: bytes) -> Row:
    """Returns both files' median milliseconds on LiteRT, one thread, in turns, and their ratio."""
    interpreters = [Interpreter(model_content=data, num_threads=1) for data in (ours, theirs)]
    random = np.random.default_rng(0)
    for interpreter in interpreters:
        interpreter.allocate_tensors()
        (given,) = interpreter.get_input_details()
        interpreter.set_tensor(given["index"], random.integers(-128, 128, given["shape"], np.int8))
        interpreter.invoke()
    taken: list[list[float]] = [[], []]
    end = time.perf_counter() + LATENCY_SECONDS
    while time.perf_counter() < end:
        for index in (0, 1, 1, 0):  # each comes first as often as second
            start = time.perf_counter()
            interpreters[index].invoke()
            taken[index].append(1e3 * (time.perf_counter() - start))
    mine, converters = map(statistics.median, taken)
    return {
        "latency_ms": mine,
        "converter_latency_ms": converters,
        "latency_ratio": mine / converters,
    }


def markdown(rows: dict[str, Row]) -> str:
    """Returns the rows as a Markdown table."""
    heads = [
        "network",
        "input",
        "elements",
        *(f"differ: {name}" for name in RUNTIMES.values()),
        "on the NPU",
        "KiB",
        "over the converter's",
        "container",
        "export, s",
        "memory, × float",
        "latency, × the converter's",
    ]
    lines = [
        heads,
        ["---"] + ["---:"] * (len(heads) - 1),
        *(_cells(name, row) for name, row in rows.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(name: str, row: Row) -> list[str]:
    compared = max(
        (part.get("compared_elements", 0) for part in row["runtimes"].values()), default=0
    )
    npu = row["npu"]
    return [
        name,
        "×".join(map(str, row["input"])),
        f"{compared:,}",
        *(
            part.get("refused") or f"{part['differing_elements']:,}"
            for part in (row["runtimes"].get(name, {"refused": "-"}) for name in RUNTIMES)
        ),
        npu.get("refused") or f"{npu['npu_operators']} of {npu['operators']}",
        f"{row['tflite_bytes'] / 1024:,.0f}",
        f"{row['tflite_bytes'] / row['converter_bytes'] - 1:+.1%}",
        f"{row['container_bytes'] / 1024:,.0f}",
        f"{row['export_seconds']:.2f}",
        f"{row['export_memory_over_float_size']:.1f}",
        f"{row['latency_ratio']:.3f}",
    ]


def main() -> None:
    """Measures the chosen networks, writes the rows of all and prints the table."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME"
    )
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, metavar="NAME")
    options = parser.parse_args()
    stored = RESULTS / "networks.json"
    rows: dict[str, Row] = json.loads(stored.read_text())["networks"] if stored.exists() else {}
    progress = tqdm(options.networks)
    for name in progress:

        def describe(step: str, name: str = name) -> None:
            progress.set_description(f"{name}: {step}")

        if options.runtimes:
            rows[name]["runtimes"] |= on_runtimes(NETWORKS[name], options.runtimes, describe)
        else:
            rows[name] = measure(NETWORKS[name], describe)
        # After each, so that a run cut short keeps what it has.
        rows = {known: rows[known] for known in NETWORKS if known in rows}
        write_result("networks", {"networks": rows})
    print(markdown(rows), f"\n\nwritten to {stored}")


if __name__ == "__main__":
    main()
