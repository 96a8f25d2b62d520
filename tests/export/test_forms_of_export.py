"""`logits` and `target` of an export: what they leave out, refuse and store."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tfqreg.errors import ModelError
from tfqreg.export import check, export_tflite, lower, simulate, verify, write_tflite
from tfqreg.export.export import exported_graph
from tfqreg.export.flatbuffer.read import Form, read_form
from tfqreg.export.verification.verify import default_runtimes


@pytest.fixture(scope="module")
def classifier() -> tuple[keras.Model, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="head"),
            keras.layers.Softmax(name="scores"),
        ]
    )
    return tq.calibrate(tq.quantize(model), x, verbose=0), x


@pytest.mark.parametrize("float_io", [False, True])
def test_logits_instead_of_a_softmax(classifier, float_io, tmp_path):
    model, x = classifier
    graph = export_tflite(model, tmp_path / "m.tflite", float_io=float_io, logits=True)
    assert "SOFTMAX" not in [op.kind for op in graph.ops]
    assert read_form(write_tflite(graph)) == Form(logits=True)
    assert verify(model, tmp_path / "m.tflite", x).exact
    if not float_io:
        whole = lower(model)
        random = np.random.default_rng(1).integers(-128, 128, (50, 6, 6, 3)).astype(np.int8)
        scores = simulate(whole, [random])[whole.outputs[0]]
        logits = simulate(graph, [random])[graph.outputs[0]]
        best = logits == logits.max(-1, keepdims=True)
        assert (np.where(best, scores, -128).max(-1) == scores.max(-1)).all()


def test_logits_of_a_model_without_a_softmax(tmp_path):
    x = np.zeros((4, 8), np.float32) + np.arange(8, dtype=np.float32)
    net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    q = tq.calibrate(tq.quantize(net), x, verbose=0)
    with pytest.raises(ModelError, match="`logits=True` leaves out a softmax at the end"):
        export_tflite(q, tmp_path / "m.tflite", logits=True)
    assert not (tmp_path / "m.tflite").exists()


def test_a_target_is_stored_and_says_what_to_compare_with(classifier, tmp_path):
    model, _ = classifier
    tflite = write_tflite(exported_graph(model, target="android-arm64"))
    assert read_form(tflite) == Form(target="android-arm64")
    assert default_runtimes("android-arm64")[-1] == "litert-aarch64"
    assert "litert-aarch64" not in default_runtimes("ethos-u55-128")
    assert default_runtimes(None) == default_runtimes("tflite_cpu")
    with pytest.raises(ModelError, match="A target is one of android-arm64, "):
        export_tflite(model, tmp_path / "m.tflite", target="android-arm32")


def test_check_names_what_differs_between_the_processors(classifier):
    model, _ = classifier
    (found,) = check(model, "android-arm64")
    assert (found.path, found.received, found.severity) == ("scores", "SOFTMAX", "warning")
    assert "arm64" in found.rule and "logits=True" in found.fix
    assert check(model, "tflite_cpu") == []
