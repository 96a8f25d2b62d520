"""Quantization without training, beside TensorFlow's: `python -m benchmarks.post_training`.

EfficientNet-Lite0 is calibrated on crops of photographs, by `quantize` and `calibrate` here and by
TFLiteConverter there (int8 throughout, the same crops). Both integer models meet the float net on
crops of other photographs.
"""

import argparse
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

import tfqreg as tq
from tfqreg.export import export_tflite

from .helpers import photos
from .helpers.agreement import agreement, integer_logits, same_class
from .helpers.arguments import benchmark_parser
from .helpers.converter import full_integer
from .helpers.efficientnet_lite0 import efficientnet_lite0, preprocess
from .helpers.record import write_result


def tensorflow_int8(model: keras.Model, images: np.ndarray) -> bytes:
    """Returns TFLiteConverter's post-training int8 model, calibrated on `images`."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(folder, verbose=False)
        return full_integer(tf.lite.TFLiteConverter.from_saved_model(folder), images)


def our_int8(model: keras.Model, images: np.ndarray, correct_bias: bool = True) -> bytes:
    """Returns the integer model of `quantize` and `calibrate`."""
    quantized = tq.calibrate(tq.quantize(model), images, correct_bias=correct_bias)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        export_tflite(quantized, path)
        return path.read_bytes()


def comparison(
    found: dict[str, np.ndarray], expected: np.ndarray, photographs: int
) -> dict[str, float]:
    """Returns how often one of both integer models alone keeps the float net's class.

    Args:
        found: logits by model.
        expected: the float net's.
        photographs: of which the images are crops, as many of each.
    """
    kept = {name: same_class(logits, expected) for name, logits in found.items()}
    ahead = kept["tfqreg"].astype(float) - kept["tensorflow"]
    # Crops of one photograph are no independent samples.
    by_photo = ahead.reshape(photographs, -1).mean(axis=1)
    return {
        "tfqreg_alone_agrees": int((ahead > 0).sum()),
        "tensorflow_alone_agrees": int((ahead < 0).sum()),
        "tfqreg_ahead": float(ahead.mean()),
        "tfqreg_ahead_standard_error": float(by_photo.std(ddof=1) / np.sqrt(len(by_photo))),
    }


def arguments() -> argparse.Namespace:
    """Returns what the command line asks for."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--calibration-crops", type=int, default=8, help="of each photograph; 8 by default"
    )
    parser.add_argument(
        "--test-crops", type=int, default=32, help="of each photograph; 32 by default"
    )
    parser.add_argument(
        "--validation", action="store_true", help="measures on the validation photographs instead"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    return parser.parse_args()


def main() -> None:
    """Calibrates, measures and writes `results/post_training.json`."""
    options = arguments()
    split = photos.split()
    measured = split.validation if options.validation else split.test
    calibration = preprocess(
        photos.crops(split.train, options.calibration_crops, seed=options.seed)
    )
    images = preprocess(photos.crops(measured, options.test_crops, seed=options.seed + 1))
    model = efficientnet_lite0()
    expected = model.predict(images, batch_size=32)
    integer = {
        "tensorflow": tensorflow_int8(model, calibration),
        "tfqreg": our_int8(model, calibration),
        "tfqreg_without_bias_correction": our_int8(model, calibration, correct_bias=False),
    }
    found = {name: integer_logits(tflite, images) for name, tflite in integer.items()}
    result = {
        "network": "EfficientNet-Lite0, 224, ImageNet weights",
        "measured_on": "validation" if options.validation else "test",
        "photos": len(measured),
        "crops": len(images),
        "calibration_photos": len(split.train),
        "calibration_crops": len(calibration),
        "models": {
            name: {**asdict(agreement(logits, expected)), "bytes": len(integer[name])}
            for name, logits in found.items()
        },
        **comparison(found, expected, len(measured)),
        "seed": options.seed,
    }
    for name, figures in result["models"].items():
        print(
            f"{name:32s} agrees on {figures['top1_agreement']:.1%}, "
            f"top five {figures['top5_overlap']:.1%}, SQNR {figures['sqnr_db']:.1f} dB"
        )
    if not options.validation:
        print(f"written to {write_result('post_training', result)}")


if __name__ == "__main__":
    main()
