"""The wheel, built from the sdist and installed outside of the checkout: what it holds, and that
everything a user does with it works in an empty folder.
"""

import json
import re
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from benchmarks.helpers.data import mnist
from tests.built import SOURCES, run
from tests.export import small_model
from tfqreg._serialization import register
from tfqreg.quantizers import Quantizer
from tfqreg.regularizers import Penalty, Pruning
from tfqreg.regularizers.power_of_two_scale import PowerOfTwoScale

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def scripts(wheel, tmp_path_factory) -> Path:
    """Where `python` and `tfqreg` of a fresh environment are: the wheel in it, and the packages of
    the running one by their path alone, which leaves the editable install of the checkout behind.
    """
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder)
    where = {"base": str(folder), "platbase": str(folder)}
    scripts = Path(sysconfig.get_path("scripts", "venv", where))
    packages = Path(sysconfig.get_path("purelib", "venv", where))
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", wheel], folder)
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))
    imported = run([scripts / "python", "-c", "import tfqreg; print(tfqreg.__file__)"], folder)
    assert Path(imported.strip()).is_relative_to(packages)
    return scripts


def classes() -> dict[str, type]:
    """Every serializable class of tfqreg, by name."""
    register()
    found = keras.saving.get_custom_objects().items()
    return {name.partition(">")[2]: cls for name, cls in found if name.startswith("tfqreg>")}


def layer_with(cls: type) -> keras.layers.Layer:
    """A layer that a class takes part in."""
    weights, regularizer, prune = tq.Uniform(4, power_of_two=cls is PowerOfTwoScale), None, None
    if issubclass(cls, Quantizer):
        weights = cls()
    elif issubclass(cls, Pruning):
        prune = cls(sparsity=0.5)
    elif issubclass(cls, Penalty):
        weights = tq.LearnedBits() if cls is tq.SinAReQ else weights
        regularizer = cls(alpha=0.1) if cls is PowerOfTwoScale else cls()
    elif cls is not tq.Quantized:
        return cls(name=cls.__name__)
    return tq.Quantized(layers.Dense(4, name=cls.__name__), weights, regularizer, prune)


def model_with(cls: type) -> keras.Model:
    """A model whose file names a class."""
    if issubclass(cls, keras.optimizers.Optimizer | keras.losses.Loss):
        net = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
        model = tq.quantize(net, [tq.Rule(".*", tq.MultiBit())])  # the weights that ALQ is for
        is_loss = issubclass(cls, keras.losses.Loss)
        model.compile("sgd" if is_loss else cls(), cls() if is_loss else "mse")
        return model
    return keras.Sequential([keras.Input((4,)), layer_with(cls)])


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with a `.keras` for every class, and what each model makes of `x.npy`."""
    folder = tmp_path_factory.mktemp("models")
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    np.save(folder / "x.npy", x)
    for name, cls in classes().items():
        model = model_with(cls)
        np.save(folder / f"{name}.npy", np.asarray(model(x)))
        model.save(folder / f"{name}.keras")
        with zipfile.ZipFile(folder / f"{name}.keras") as archive:
            assert f'"tfqreg>{name}"' in archive.read("config.json").decode(), name
    return folder


def test_the_sdist_and_the_wheel_hold_every_file(sdist, wheel):
    on_disk = {
        f"{name}/{path.relative_to(ROOT / top).as_posix()}"
        for top, name in (("tfqreg", "tfqreg"), ("export", "tfqreg/export"))
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyd")
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name and "_tqw." not in name} == on_disk
    compiled = [name for name in names if name.startswith("tfqreg/export/container/_tqw.")]
    assert len(compiled) == (shutil.which("cc") is not None)
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    moved = {re.sub("^tfqreg/export/", "export/", name) for name in on_disk}
    assert moved | set(SOURCES) <= members


LOAD = """
import sys
from pathlib import Path
FIRST
SECOND
import numpy as np

x = np.load("x.npy")
for path in sorted(Path().glob("*.keras")):
    model = keras.models.load_model(path)
    np.testing.assert_array_equal(model(x), np.load(path.with_suffix(".npy")), str(path))
    print(path.stem)
"""


@pytest.mark.parametrize("first,second", [("tfqreg", "keras"), ("keras", "tfqreg")])
def test_every_class_is_known_to_a_new_process(scripts, models, first, second):
    code = LOAD.replace("FIRST", f"import {first}").replace("SECOND", f"import {second}")
    loaded = run([scripts / "python", "-c", code], models)
    assert set(classes()) <= set(loaded.splitlines())


# The script itself, once per file in one process: Keras takes seconds to load.
COMMAND = """
import runpy, sys

script, *files = sys.argv[1:]
for file in files:
    sys.argv = [script, "check", file]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        assert stop.code in (0, 1), file  # 2: the file cannot be loaded
"""


def test_every_class_is_known_to_the_command(scripts, models):
    files = sorted(path.name for path in models.glob("*.keras"))
    told = run([scripts / "python", "-c", COMMAND, scripts / "tfqreg", *files], models)
    assert all(re.search(rf"^{name}: \d+ error", told, re.MULTILINE) for name in files)


def test_the_command_takes_a_model_to_its_container_and_back(scripts, tmp_path):
    small_model.trained()[0].save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", small_model.data(4))
    tfqreg = scripts / "tfqreg"
    out = "m.keras: 0 errors, 0 warnings"
    assert run([tfqreg, "check", "m.keras"], tmp_path).splitlines()[-1] == out
    run([tfqreg, "export", "m.keras", "-o", "m.tflite", "--container", "m.tqw"], tmp_path)
    compared = run([tfqreg, "verify", "m.keras", "m.tflite", "--samples", "x.npy"], tmp_path)
    assert re.search("^litert: 0 of [1-9]", compared, re.MULTILINE)
    account = run([tfqreg, "inspect", "m.tqw", "--json"], tmp_path)
    assert json.loads(account)["container_bytes"] == (tmp_path / "m.tqw").stat().st_size
    run([tfqreg, "unpack", "m.tqw", "-o", "back.tflite"], tmp_path)
    assert (tmp_path / "back.tflite").read_bytes() == (tmp_path / "m.tflite").read_bytes()


# What the README takes for granted: a model and its data, and keras.datasets without the network.
PREPARED = """
import keras, numpy
from keras import layers

data = numpy.load("digits.npz")
keras.datasets.mnist.load_data = lambda: ((data["x"], data["y"]), (data["x_test"], data["y_test"]))
x, x_test = (data[name][..., None] / 255 for name in ("x", "x_test"))
first = layers.Conv2D(8, 5, 3, activation="relu")
model = keras.Sequential([keras.Input((28, 28, 1)), first, layers.Flatten(), layers.Dense(10)])
"""


def test_the_readme_runs_in_an_empty_folder(scripts, tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    (x, y), _, (x_test, y_test) = mnist()
    pixels = {"x": x[:500, ..., 0], "x_test": x_test[:100, ..., 0]}
    pixels = {name: (255 * image).astype("uint8") for name, image in pixels.items()}
    np.savez(tmp_path / "digits.npz", y=y[:500], y_test=y_test[:100], **pixels)
    printed = run([scripts / "python", "-c", PREPARED + code[1]], tmp_path)
    assert re.search("^litert: 0 of [1-9]", printed, re.MULTILINE)
