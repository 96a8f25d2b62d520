"""How much of a float classifier's decisions a quantized one keeps, on images without labels."""

from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter


@dataclass(frozen=True)
class Agreement:
    """A quantized classifier against the float one, over the same images."""

    top1_agreement: float
    top5_overlap: float
    logit_cosine: float
    sqnr_db: float


def agreement(found: np.ndarray, expected: np.ndarray) -> Agreement:
    """Compares logits (images, classes) with the float net's.

    `top5_overlap` is the mean fraction of the float net's five best classes among the five found,
    and `sqnr_db = 10 log10(sum t^2 / sum (s - t)^2)`.
    """
    five = [np.argsort(-logits, axis=1)[:, :5] for logits in (found, expected)]
    overlap = np.mean([len(np.intersect1d(a, b)) / 5 for a, b in zip(*five, strict=True)])
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    error = np.square(found - expected, dtype=np.float64).sum()
    return Agreement(
        float(same_class(found, expected).mean()),
        float(overlap),
        float(np.mean((found * expected).sum(axis=1) / norms)),
        float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / error)),
    )


def same_class(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns, image by image, whether the best class is the same."""
    return found.argmax(axis=1) == expected.argmax(axis=1)


def integer_logits(tflite: bytes, images: np.ndarray, batch: int = 32) -> np.ndarray:
    """Returns the float logits of an int8 `.tflite` of one input and one output under LiteRT.

    Args:
        tflite: the model.
        images: float inputs (images, ...), rounded to the model's own input scale.
        batch: images per invocation; 32 by default.
    """
    interpreter = Interpreter(model_content=tflite)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (in_scale, in_zero), (out_scale, out_zero) = source["quantization"], target["quantization"]
    codes = np.clip(np.rint(images / in_scale) + in_zero, -128, 127).astype(np.int8)
    found = []
    progress = keras.utils.Progbar(len(images), unit_name="image")
    for start in range(0, len(codes), batch):
        part = codes[start : start + batch]
        interpreter.resize_tensor_input(source["index"], part.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], part)
        interpreter.invoke()
        found.append(
            (interpreter.get_tensor(target["index"]).astype(np.float32) - out_zero) * out_scale
        )
        progress.update(start + len(part))
    return np.concatenate(found)
