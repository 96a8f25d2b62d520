"""Twice the width and height of photographs, by integers: `python -m benchmarks.super_resolution`.

A network of 6,000 weights learns to double crops of photographs, in float; then with 8-bit
activations and weights of 8, 4 and 1 bits (`w1_inner`: binary but for the first and the last
layer). Each exported `.tflite` runs on the middle of seven other photographs, and must equal its
simulator.
"""

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

import tfqreg as tq
from tfqreg.export import export_tflite, integer_model, verify

from .helpers import photos
from .helpers.agreement import integer_logits
from .helpers.architectures import super_resolution_transposed
from .helpers.arguments import benchmark_parser
from .helpers.record import Cells

# Pixels of the windows, and of the border that PSNR leaves out, as padding spoils it; channels.
WINDOW, TEST_WINDOW, BORDER, WIDTH = 64, 288, 4, 20
WINDOWS_PER_PHOTO, BATCH, SEEDS = 32, 16, (0, 1, 2)
# The float network learns from nothing, the others go on from it at half the rate.
FLOAT_EPOCHS, FLOAT_RATE, RATE = 24, 2e-3, 1e-3
# Bits of the first and last layer, of the one between, epochs, and alpha as a fraction of the float
# network's error. Binary weights learn slowly, and need room to change their sign: of 1e-2, 1e-3
# and 1e-4 the second gave the least error on the windows of the training.
VARIANTS = {
    "w8": (8, 8, 6, 1e-2),
    "w4": (4, 4, 6, 1e-2),
    "w1_inner": (8, 1, 60, 1e-2),
    "w1": (1, 1, 60, 1e-3),
}
ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "benchmarks" / "weights" / "super_resolution.keras"
IMAGES = ROOT / "build" / "super_resolution"
TEST_PHOTOS = {
    "skimage": [
        f"data/{name}" for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
    ]
    + ["data/motorcycle_left.png"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}


def test_photos() -> list[Path]:
    """Returns the seven test photographs.

    Raises:
        FileNotFoundError: when a package with them is not installed.
    """
    found = []
    for package, names in TEST_PHOTOS.items():
        spec = importlib.util.find_spec(package)
        for name in names:
            path = (
                Path(next(iter(spec.submodule_search_locations or ())), name)
                if spec
                else Path(package, name)
            )
            if not path.is_file():
                raise FileNotFoundError(
                    f"Test photographs: pip install --no-deps scikit-image==0.26.0 "
                    f"scikit-learn==1.7.2. Missing: {path}"
                )
            found.append(path)
    return found


def halved(windows: np.ndarray) -> np.ndarray:
    """Returns images (n, h, w, 3), uint8, at half their width and height, bicubic."""
    return np.stack([_resized(window, 0.5) for window in windows])


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def training_windows(seed: int = 0) -> np.ndarray:
    """Returns windows of the training photographs, uint8 (n, WINDOW, WINDOW, 3)."""
    random, found = np.random.default_rng(seed), []
    for path in photos.split().train:
        image = np.asarray(photos.load(path))
        for _ in range(WINDOWS_PER_PHOTO):
            top, left = (random.integers(side - WINDOW + 1) for side in image.shape[:2])
            found.append(image[top : top + WINDOW, left : left + WINDOW])
    return np.stack(found)


def test_windows() -> np.ndarray:
    """Returns the middle of each test photograph, uint8 (7, TEST_WINDOW, TEST_WINDOW, 3)."""
    images = [np.asarray(Image.open(path).convert("RGB")) for path in test_photos()]
    corners = [[(side - TEST_WINDOW) // 2 for side in image.shape[:2]] for image in images]
    return np.stack(
        [
            x[t : t + TEST_WINDOW, s : s + TEST_WINDOW]
            for x, (t, s) in zip(images, corners, strict=True)
        ]
    )


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the mean over images of `10 log10(255^2 / mean squared error)`, in dB.

    Over all channels, the border left out.
    """
    inner = slice(BORDER, -BORDER)
    error = (found[:, inner, inner].astype(np.float64) - expected[:, inner, inner]) ** 2
    return float(np.mean(10.0 * np.log10(255.0**2 / error.mean((1, 2, 3)))))


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Returns images in [0, 1] as uint8."""
    return np.clip(np.rint(255.0 * images), 0, 255).astype(np.uint8)


def network(size: int) -> keras.Model:
    """Returns the untrained network for images (size, size, 3) in [0, 1]."""
    return super_resolution_transposed((size, size, 3), WIDTH)


def fit(
    model: keras.Model, windows: np.ndarray, epochs: int, rate: float, callbacks: Any = None
) -> keras.Model:
    """Trains a model to give windows back from their halves; returns it."""
    x, y = (part.astype(np.float32) / 255.0 for part in (halved(windows), windows))
    steps = epochs * -(-len(x) // BATCH)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), "mse")
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=2, callbacks=callbacks)
    return model


def float_network() -> keras.Model:
    """Returns the float network, trained with seed 0 if its weights are not there."""
    if not WEIGHTS.is_file():
        keras.utils.set_random_seed(0)
        model = fit(network(WINDOW // 2), training_windows(), FLOAT_EPOCHS, FLOAT_RATE)
        model.compile()  # drops the optimizer's state
        model.save(WEIGHTS, include_optimizer=False)
    return keras.models.load_model(WEIGHTS, compile=False)


def quantized(
    float_model: keras.Model,
    outer_bits: int,
    inner_bits: int,
    epochs: int,
    fraction: float,
    seed: int,
) -> keras.Model:
    """Returns the network of low-precision weights, trained from the float one.

    Args:
        float_model: to start from.
        outer_bits, inner_bits: of the first and last layer, and of the one between.
        epochs: of the training.
        fraction: of the float network's error, for alpha.
        seed: of the windows and their order.

    Returns:
        A network for images of the size of the test images.
    """
    keras.utils.set_random_seed(seed)
    windows = training_windows(seed)
    # In units of the loss, as the method asks.
    alpha = fraction * float(
        np.mean((float_model.predict(halved(windows) / 255.0, verbose=0) - windows / 255.0) ** 2)
    )
    outer, inner = (tq.Uniform(bits, per_channel=True) for bits in (outer_bits, inner_bits))
    regularizer = tq.MSQE(alpha)
    rules = [tq.Rule("mapping", inner, regularizer), tq.Rule(".*", outer, regularizer)]
    model = tq.quantize(float_model, rules)
    tq.calibrate(model, halved(windows)[:256].astype(np.float32) / 255.0, verbose=0)
    fit(model, windows, epochs, RATE, tq.callbacks_for(model))
    large_float = network(TEST_WINDOW // 2)
    large_float.set_weights(float_model.get_weights())
    large = tq.quantize(large_float, rules)
    large.set_weights(model.get_weights())
    return large


def measure(float_model: keras.Model, variant: str, seed: int, test: np.ndarray) -> dict[str, Any]:
    """Trains, exports, verifies; returns figures, and leaves the integer results in `IMAGES`."""
    model, x = (
        quantized(float_model, *VARIANTS[variant], seed),
        halved(test).astype(np.float32) / 255.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        path, container = Path(folder, "model.tflite"), Path(folder, "model.tqw")
        export_tflite(model, path, container=container)
        report = verify(model, path, x, runtimes=["litert"])
        runtime = to_bytes(integer_logits(path.read_bytes(), x, batch=len(x)))
        sizes = {"tflite_bytes": path.stat().st_size, "container_bytes": container.stat().st_size}
    IMAGES.mkdir(parents=True, exist_ok=True)
    np.save(IMAGES / f"{variant}.npy", runtime)
    return {
        "psnr_db_trained": psnr(to_bytes(model.predict(x, verbose=0)), test),
        "psnr_db_simulator": psnr(to_bytes(integer_model(model).predict(x, verbose=0)), test),
        "psnr_db_tflite": psnr(runtime, test),
        "elements_compared": report.runtimes["litert"].compared_elements,
        "elements_that_differ": report.runtimes["litert"].mismatched_elements,
        **sizes,
    }


def draw(test: np.ndarray, bicubic: np.ndarray, in_float: np.ndarray) -> Path:
    """Draws details of three photographs into `docs/pictures/super_resolution.png`."""
    import matplotlib.pyplot as plt

    columns = {"bicubic": bicubic, "float": in_float}
    integer = {"integer, 8-bit weights": "w8", "integer, 4-bit": "w4", "integer, binary": "w1"}
    columns |= {title: np.load(IMAGES / f"{variant}.npy") for title, variant in integer.items()}
    columns |= {"original": test}
    details = ((0, 60, 110), (2, 70, 70))  # image, row, column
    figure, axes = plt.subplots(len(details), len(columns), figsize=(10.5, 3.8))
    for row, (image, top, left) in zip(axes, details, strict=True):
        for axis, images in zip(row, columns.values(), strict=True):
            axis.imshow(images[image, top : top + 80, left : left + 80], interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    path = ROOT / "docs" / "pictures" / "super_resolution.png"
    figure.savefig(path, dpi=80)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    return path


def main() -> None:
    """Measures, writes `results/super_resolution.json` and draws the strip."""
    benchmark_parser(__doc__).parse_args()
    test = test_windows()
    bicubic = np.stack([_resized(image, 2) for image in halved(test)])
    float_model, large = float_network(), network(TEST_WINDOW // 2)
    large.set_weights(float_model.get_weights())
    in_float = to_bytes(large.predict(halved(test) / np.float32(255.0), verbose=0))
    header = {
        "network": f"{float_model.count_params()} parameters; x2; activations of 8 bits; one "
        f"scale a channel",
        "training_windows": WINDOWS_PER_PHOTO * len(photos.split().train),
        "test_photos": [path.name for path in test_photos()],
        "test_windows": f"the middle {TEST_WINDOW} x {TEST_WINDOW} pixels, borders of {BORDER} "
        f"left out, RGB",
        "float_epochs": FLOAT_EPOCHS,
        "bits_epochs_and_alpha": VARIANTS,
        "seeds": list(SEEDS),
        "what_seeds_vary": "windows and their order in fine-tuning; the float network is one",
    }
    cells = Cells("super_resolution", header)
    cells("bicubic", lambda: {"psnr_db": psnr(bicubic, test)})
    cells("float", lambda: {"psnr_db": psnr(in_float, test)})
    for seed in SEEDS:
        for variant in VARIANTS:
            cells(
                f"{variant} seed {seed}",
                functools.partial(measure, float_model, variant, seed, test),
            )
            keras.backend.clear_session()
    print(f"drawn: {draw(test, bicubic, in_float)}")


if __name__ == "__main__":
    main()
