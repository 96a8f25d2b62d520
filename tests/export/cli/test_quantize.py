"""`tfqreg quantize`: what it writes, and one line for everything that is wrong."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tfqreg as tq
from tests.export.cli.test_commands import refused, run
from tfqreg.export.cli.quantize import load_images
from tfqreg.layers.queries import activation_layers, quantized_layers


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    layers = [keras.Input((8, 8, 3), name="x"), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(2)]).save("m.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 12, 3), np.uint8)
    Path("photos/more").mkdir(parents=True)
    for i, array in enumerate(pixels):
        Image.fromarray(array).save(f"photos/{'more/' * (i % 2)}{i}.png")
    np.save("x.npy", np.random.default_rng(1).random((20, 8, 8, 3), np.float32))
    np.save("other.npy", np.zeros((20, 8, 8, 1), np.float32))
    Path("empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("scale, low, high", [("none", 0, 255), ("0..1", 0, 1), ("-1..1", -1, 1)])
def test_images(here, capsys, scale, low, high):
    code, out, _ = run(
        capsys, "quantize", "m.keras", "--images", "photos", f"--scale={scale}", "-o", "q.keras"
    )
    assert code == 0
    assert "calibrating on 6 samples" in out
    model = keras.models.load_model("q.keras", compile=False)
    step, lowest = model.get_layer("x_quantizer").encode()
    assert np.isclose(255 * step, high - low, rtol=0.25)
    assert (lowest < 0) == (low < 0)


def test_images_equal_samples_through_calibrate(here, capsys):
    paths = sorted(Path("photos").rglob("*.png"))
    images = load_images(paths, (8, 8, 3), "0..1")
    assert images.shape == (6, 8, 8, 3) and 0 <= images.min() < images.max() <= 1
    run(capsys, "quantize", "m.keras", "--images", "photos", "--scale", "0..1", "-o", "q.keras")
    found = keras.models.load_model("q.keras", compile=False)
    expected = tq.calibrate(tq.quantize(keras.models.load_model("m.keras")), images, verbose=0)
    for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_samples_and_bits(here, capsys):
    argv = ["--samples", "x.npy", "--weights", "5", "--activations", "7", "-o", "q.keras"]
    assert run(capsys, "quantize", "m.keras", *argv)[0] == 0
    model = keras.models.load_model("q.keras", compile=False)
    assert {layer.quantizer.bits for layer in quantized_layers(model)} == {5}
    assert {layer.bits for layer in activation_layers(model)} == {7}
    assert run(capsys, "export", "q.keras", "-o", "m.tflite", "--input-type", "uint8")[0] == 0
    assert run(capsys, "verify", "q.keras", "m.tflite", "--samples", "x.npy")[0] == 0


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--images", "empty", "-o", "q.keras"], "empty: there are no images. Give a folder"),
        (["--images", "none", "-o", "q.keras"], "none: there are no images."),
        (["--samples", "other.npy", "-o", "q.keras"], "inputs are of the shape (batch, 8, 8, 3)"),
        (["--samples", "none.npy", "-o", "q.keras"], "none.npy: cannot be read"),
        (["--images", "photos", "-o", "q.h5"], "q.h5: the model is written as .keras."),
        (["--images", "photos", "--weights", "9", "-o", "q.keras"], "invalid choice: 9"),
        (["--images", "photos", "--most", "0", "-o", "q.keras"], "a whole number above 0"),
        (["-o", "q.keras"], "one of the arguments --images --samples is required"),
    ],
)
def test_what_is_refused(here, capsys, argv, message):
    code, _, err = run(capsys, "quantize", "m.keras", *argv)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not Path("q.keras").exists()


def test_a_picture_that_is_none_and_a_model_without_images(here, capsys):
    Path("photos/bad.png").write_text("hello")
    argv = ["quantize", "m.keras", "--images", "photos", "-o", "q.keras"]
    assert "photos/bad.png: this is no image" in refused(capsys, *argv)
    Path("photos/bad.png").unlink()
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save("m.keras")
    assert "--images needs a model of one input" in refused(capsys, *argv)
