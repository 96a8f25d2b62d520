"""TensorFlow Model Optimization on the demo's job: `python -m benchmarks.tfmot_baseline`.

The same LeNet-5 and digits, on tf_keras: float training, magnitude pruning along a polynomial
schedule, then quantization-aware training that preserves the zeros, TFLiteConverter, and
general-purpose compressors. It gets more epochs than the demo.
"""

import json
import lzma
import os
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"


from .helpers.agreement import integer_logits
from .helpers.architectures import lenet5
from .helpers.arguments import benchmark_parser
from .helpers.data import Split, mnist
from .helpers.figures import accuracy_of
from .helpers.record import write_result

# The demo's.
BATCH = 128


def train(
    model: Any, data: tuple[Split, Split], epochs: int, rate: float, callbacks: Any = ()
) -> None:
    """Trains with Adam, its rate falling along a cosine."""
    import tf_keras as keras

    steps = epochs * -(-len(data[0][0]) // BATCH)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        *data[0],
        batch_size=BATCH,
        epochs=epochs,
        validation_data=data[1],
        callbacks=list(callbacks),
    )


def pruned(model: Any, data: tuple[Split, Split], sparsity: float, epochs: int) -> Any:
    """Returns the model with `sparsity` of every kernel but the first pruned."""
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    steps = epochs * -(-len(data[0][0]) // BATCH)
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        0.0, sparsity, 0, round(0.7 * steps), frequency=100
    )

    def wrap(layer: Any) -> Any:
        kernel = bool(layer.trainable_weights) and layer.name != "conv1"
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if kernel else layer

    wrapped = keras.models.clone_model(model, clone_function=wrap)
    train(wrapped, data, epochs, 2e-3, [tfmot.sparsity.keras.UpdatePruningStep()])
    return tfmot.sparsity.keras.strip_pruning(wrapped)


def quantized(model: Any, data: tuple[Split, Split], epochs: int) -> Any:
    """Returns the model after quantization-aware training that keeps its zeros."""
    import tensorflow_model_optimization as tfmot

    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    aware = tfmot.quantization.keras.quantize_apply(annotated, scheme)
    train(aware, data, epochs, 3e-4)
    return aware


def converted(model: Any) -> bytes:
    """Returns the model as TFLiteConverter writes it, with int8 inputs and outputs."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def main() -> None:
    """Runs the job and writes `results/tfmot_baseline.json`."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--sparsity", type=float, default=0.98, help="fraction of pruned weights; 0.98 by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    options = parser.parse_args()
    import tf_keras as keras

    keras.utils.set_random_seed(options.seed)
    *data, test = mnist()
    model = lenet5(backend=keras)
    train(model, (data[0], data[1]), 4, 1e-3)
    float_accuracy = float(model.evaluate(*test, verbose=0)[1])
    sparse = pruned(model, (data[0], data[1]), options.sparsity, 8)
    tflite = converted(quantized(sparse, (data[0], data[1]), 4))
    float_bytes = 4 * model.count_params()
    sizes = {
        "tflite": len(tflite),
        "deflate": len(zlib.compress(tflite, 9)),
        "xz": len(lzma.compress(tflite, preset=9 | lzma.PRESET_EXTREME)),
    }
    result = {
        "float_accuracy": float_accuracy,
        "tflite_accuracy": accuracy_of(integer_logits(tflite, test[0], batch=500), test[1]),
        "sparsity": options.sparsity,
        "float_bytes": float_bytes,
        **{f"{name}_bytes": size for name, size in sizes.items()},
        **{f"{name}_ratio": float_bytes / size for name, size in sizes.items()},
        "seed": options.seed,
    }
    folder = Path(__file__).parent / "results"
    path = write_result("tfmot_baseline", result, folder)
    print(json.dumps(result, indent=2), f"\nwritten to {path}")


if __name__ == "__main__":
    main()
