"""How long an export takes: `python -m benchmarks.export_time`.

MobileNetV1 at 224, random weights, calibrated on random images: seconds from the Keras model to the `.tflite` on disk,
the median of several runs, and the peak of Python's own memory beside the float model's size.
"""

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

import tfqreg as tq
from tfqreg.export import export_tflite

from .record import write_result


def mobilenet() -> keras.Model:
    """Returns MobileNetV1 at 224 with 8-bit weights a channel and calibrated activations."""
    keras.utils.set_random_seed(0)
    model = tq.quantize(keras.applications.MobileNet(weights=None))
    return tq.calibrate(model, np.random.default_rng(0).random((8, 224, 224, 3), np.float32), batch_size=4)


def main() -> None:
    """Measures and writes `results/export_time.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="exports timed; 5 by default")
    options = parser.parse_args()
    model = mobilenet()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        seconds = []
        for _ in tqdm(range(options.runs), desc="exporting"):
            start = time.perf_counter()
            export_tflite(model, path)
            seconds.append(time.perf_counter() - start)
        tracemalloc.start()
        export_tflite(model, path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tflite_bytes = path.stat().st_size
    result = {
        "network": "MobileNetV1 at 224",
        "seconds": statistics.median(seconds),
        "tflite_bytes": tflite_bytes,
        "peak_memory_over_float_size": peak_bytes / (4 * model.count_params()),
    }
    path = write_result("export_time", result)
    print(json.dumps(result, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
