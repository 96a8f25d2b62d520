"""Four-bit weights without labels: `python -m benchmarks.distillation`.

EfficientNet-Lite0 is quantized, calibrated, and trained on crops of photographs to give the float
net's outputs. The integer models of before and after meet the float net on crops of other
photographs.
"""

import argparse
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfqreg as tq
from tfqreg.distillation import DistillationLoss
from tfqreg.export import export_tflite

from .helpers import photos
from .helpers.agreement import agreement, integer_logits
from .helpers.arguments import benchmark_parser
from .helpers.efficientnet_lite0 import efficientnet_lite0, preprocess
from .helpers.record import write_result

# After so many steps the validation crops are looked at.
STEPS_PER_EPOCH = 50


def four_bits() -> tq.Uniform:
    """Returns the quantizer of 4-bit weights."""
    return tq.Uniform(4, per_channel=True)


# Networks commonly keep 8 bits in the first and the last layer.
VARIANTS = {
    "inner_4_bits": [
        tq.Rule("^(stem|head)$", tq.Uniform(8, per_channel=True)),
        tq.Rule(".*", four_bits()),
    ],
    "all_4_bits": [tq.Rule(".*", four_bits())],
}


def distilled(
    model: keras.Model, rules: list[tq.Rule], split: photos.Split, options: Any
) -> dict[str, float]:
    """Trains a quantized model's weights at `options.size`; returns the validation by step."""
    teacher = efficientnet_lite0(input_size=options.size)
    student = tq.quantize(teacher, rules)
    student.set_weights(model.get_weights())
    validation = preprocess(photos.crops(split.validation, 12, options.size, options.seed + 2))
    expected = teacher.predict(validation, verbose=0)
    history = {}

    def validate(epoch: int, logs: Any) -> None:
        found = agreement(student.predict(validation, verbose=0), expected)
        history[str((epoch + 1) * STEPS_PER_EPOCH)] = found.top1_agreement
        print(f"validation: {found}", flush=True)

    validate(-1, None)
    lessons = map(
        preprocess, photos.endless_crops(split.train, options.batch, options.size, options.seed)
    )
    rate = keras.optimizers.schedules.CosineDecay(options.rate, options.steps)
    tq.distill(
        student,
        teacher,
        lessons,
        epochs=options.steps // STEPS_PER_EPOCH,
        steps_per_epoch=STEPS_PER_EPOCH,
        optimizer=keras.optimizers.Adam(rate),
        loss=DistillationLoss(options.temperature),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=validate)],
        verbose=2,
    )
    model.set_weights(student.get_weights())
    return history


def integer_agreement(
    model: keras.Model, images: np.ndarray, expected: np.ndarray
) -> dict[str, float]:
    """Returns how the exported model agrees with the float net's logits."""
    with tempfile.TemporaryDirectory() as folder:
        path, container = Path(folder, "model.tflite"), Path(folder, "model.tqw")
        export_tflite(model, path, container=container)
        found = agreement(integer_logits(path.read_bytes(), images), expected)
        return {**asdict(found), "container_bytes": container.stat().st_size}


def arguments() -> argparse.Namespace:
    """Returns what the command line asks for."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=400, help="400 by default; epochs of 50")
    parser.add_argument(
        "--size", type=int, default=128, help="of the crops trained on, in pixels; 128 by default"
    )
    parser.add_argument("--batch", type=int, default=16, help="16 by default")
    parser.add_argument(
        "--rate", type=float, default=2e-5, help="of Adam, falling along a cosine; 2e-5 by default"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="of the distillation loss; 1 by default"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="leaves the test photographs alone, writes nothing",
    )
    return parser.parse_args()


def main() -> None:
    """Calibrates, trains, measures and writes `results/distillation.json`."""
    options = arguments()
    keras.utils.set_random_seed(options.seed)
    split, start = photos.split(), time.perf_counter()
    float_model = efficientnet_lite0()
    calibration = preprocess(photos.crops(split.train, 8, seed=options.seed))
    images = preprocess(
        photos.crops(
            split.validation if options.validation else split.test, 32, seed=options.seed + 1
        )
    )
    expected = float_model.predict(images, batch_size=32)
    variants = {}
    for name in options.variants:
        model = tq.calibrate(tq.quantize(float_model, VARIANTS[name]), calibration)
        before = integer_agreement(model, images, expected)
        print(f"\n{name} before: {before}", flush=True)
        history = distilled(model, VARIANTS[name], split, options)
        after = integer_agreement(model, images, expected)
        print(f"{name} after: {after}", flush=True)
        variants[name] = {"before": before, "validation_top1_by_step": history, "after": after}
    result = {
        "network": "EfficientNet-Lite0, 224, ImageNet weights; activations of 8 bits",
        "training_photos": len(split.train),
        "test_photos": len(split.test),
        "test_crops": len(images),
        "variants": variants,
        "steps": options.steps,
        "crop_size": options.size,
        "batch": options.batch,
        "rate": options.rate,
        "temperature": options.temperature,
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start),
    }
    if not options.validation:
        print(f"written to {write_result('distillation', result)}")


if __name__ == "__main__":
    main()
