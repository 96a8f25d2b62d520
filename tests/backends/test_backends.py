"""Trainings on the backends of Keras, each in an environment of its own: every method goes through
prune, quantize, settle, save, load and strip.

Where an environment stands is said by TFQREG_JAX and TFQREG_TORCH, by default the folders that the
Makefile creates from constraints-backends.txt.
"""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tests.backends.train import RULES, data
from tests.tiny_nets import run_python
from tfqreg.export import export_tflite, verify

ROOT = Path(__file__).parents[2]
TARGETS = {"jax": "make test", "torch": "make test-backends"}
METHODS = {"jax": [method for method in RULES if method != "alq"], "torch": list(RULES)}


def python_of(backend: str) -> Path:
    """The interpreter of a backend's environment; skips the test where there is none."""
    folder = Path(os.environ.get(f"TFQREG_{backend.upper()}", ROOT / f".venv-{backend}"))
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        pytest.skip(f"no environment for {backend} at {folder}. {TARGETS[backend]} creates it")
    return python


def run(backend: str, python: Path | str, *arguments: object) -> str:
    """What the training prints."""
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Trainings of a few steps: compiling them takes longer than running them unoptimized.
    env["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    command = [python, "-m", "tests.backends.train", *arguments]
    done = subprocess.run(
        list(map(str, command)), env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module", params=["jax", "torch"])
def trained(request, tmp_path_factory):
    """A backend and the folder of what it trained."""
    backend, folder = request.param, tmp_path_factory.mktemp(request.param)
    methods = METHODS[backend]
    printed = run(backend, python_of(backend), folder, *methods)
    assert printed.splitlines()[-1] == f"trained {backend} {' '.join(methods)}"
    return backend, folder


def test_models_are_exported_in_the_environment_of_tensorflow(trained):
    backend, folder = trained
    x, _ = data()
    for method in METHODS[backend]:
        model = keras.models.load_model(folder / f"{method}.keras", compile=False)
        export_tflite(model, folder / f"{method}.tflite")
        report = verify(model, folder / f"{method}.tflite", x)
        assert report.exact, f"{method}: {report}"


def test_alq_is_refused_under_jax():
    code = "import tfqreg as tq\ntry: tq.ALQ()\nexcept NotImplementedError as e: print(e)"
    said = run_python(code, backend="jax", python=str(python_of("jax")))
    assert "ALQ: it changes the state of layers" in said and "TensorFlow or torch" in said


def test_training_here(tmp_path):
    assert run("tensorflow", sys.executable, tmp_path, "msqe").startswith("trained tensorflow")
