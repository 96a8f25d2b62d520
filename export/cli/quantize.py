"""`tfqreg quantize`: a float `.keras` and some samples in, a calibrated quantized `.keras` out."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import UserError, about, bar, check_targets, load_model, load_samples, quiet, write

if TYPE_CHECKING:
    import numpy as np

_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}
# What a pixel, 0..255, becomes: a factor and what is added.
_SCALES = {"none": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (2 / 255, -1.0)}


def run_quantize(arguments: argparse.Namespace) -> int:
    """Writes the quantized model; returns 0."""
    source, target = Path(arguments.model), Path(arguments.output)
    check_targets(source, target)
    if target.suffix != ".keras":
        raise UserError(f"{target}: the model is written as .keras. Received: {target.suffix!r}")
    images = image_files(Path(arguments.images)) if arguments.images else []
    samples = None if images else load_samples(Path(arguments.samples))
    model = load_model(source, quantized=False)
    import tfqreg as tq

    with about(source):
        if samples is None:
            shape = _image_shape(model)
            chosen = images[:: -(-len(images) // arguments.most)]
            samples = load_images(chosen, shape, arguments.scale)
        rules = [
            tq.Rule(".*", tq.Uniform(arguments.weights, per_channel=True), optional=True),
        ]
        with quiet():
            q = tq.quantize(model, rules, activations=arguments.activations)
        count = len(next(iter(samples.values())) if isinstance(samples, dict) else samples)
        print(f"calibrating on {count:,} samples")
        tq.calibrate(q, samples, verbose=1)
    with tempfile.TemporaryDirectory() as folder:
        q.save(Path(folder, "q.keras"))
        data = Path(folder, "q.keras").read_bytes()
    write(target, data)
    print(f"{target}: {len(data):,} bytes")
    return 0


def image_files(folder: Path) -> list[Path]:
    """Returns the images in a folder and those below it, sorted.

    Raises:
        UserError: if there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _IMAGES)
    if not found:
        what = "an empty folder or none of images" if folder.is_dir() else "no folder"
        raise UserError(
            f"{folder}: there are no images. Give a folder with {', '.join(_IMAGES)} files. "
            f"Received: {what}"
        )
    return found


def load_images(paths: list[Path], shape: tuple[int, int, int], scale: str) -> "np.ndarray":
    """Returns images of the shape (height, width, channels), float32, resized bilinearly."""
    import numpy as np

    try:
        from PIL import Image
    except ImportError as error:
        raise UserError("images need Pillow. Install it with pip install pillow.") from error

    height, width, channels = shape
    factor, offset = _SCALES[scale]
    images = np.empty((len(paths), *shape), np.float32)
    for i, path in enumerate(bar("Reading images", iterable=paths, unit="image")):
        try:
            with Image.open(path) as image:
                resized = image.convert(_COLOURS[channels]).resize(
                    (width, height), Image.Resampling.BILINEAR
                )
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(
                f"{path}: this is no image that can be read. Remove it. Received: {error}"
            ) from error
        images[i] = np.asarray(resized, np.float32).reshape(shape) * factor + offset
    return images


def _image_shape(model: Any) -> tuple[int, int, int]:
    """Returns height, width and channels of a model's one input."""
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs or []]
    ok = len(shapes) == 1 and len(shapes[0]) == 3 and None not in shapes[0]
    if not ok or shapes[0][2] not in _COLOURS:
        raise UserError(
            "--images needs a model of one input of (height, width, 1, 3 or 4). Give --samples. "
            f"Received: {', '.join(map(str, shapes)) or 'no input shape'}"
        )
    return shapes[0]
