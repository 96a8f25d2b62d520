"""Scales of weights in bfloat16: simulator and file stay equal, 1.5 bytes per channel's scale."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tfqreg.export import export_tflite, inspect, verify


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 8), name="image")
    y = layers.Conv2D(96, 3, name="conv")(x)
    norm = layers.BatchNormalization(name="norm")
    y = layers.ReLU(name="relu")(norm(y))
    y = layers.Conv2D(128, 1, activation="relu", name="point")(y)
    net = keras.Model(
        x, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D(name="mean")(y))
    )
    random = np.random.default_rng(0)
    norm.set_weights(
        [random.uniform(0.5, 2, 96), *random.normal(0, 0.2, (2, 96)), random.uniform(0.5, 2, 96)]
    )
    samples = random.normal(size=(8, 8, 8, 8)).astype(np.float32)
    quantized = tq.quantize(net, [tq.Rule("", weights=tq.Uniform(4))], activations=8)
    tq.calibrate(quantized, samples, verbose=0)
    return quantized


def test_bfloat16_scales(model: keras.Model, tmp_path: Path) -> None:
    path, container = tmp_path / "m.tflite", tmp_path / "m.tqw"
    graph = export_tflite(model, path, container, scale_dtype="bfloat16")
    kernels = [
        t.quantization.scale
        for t in graph.tensors.values()
        if t.name.endswith("/kernel") and t.quantization
    ]
    assert kernels and all(
        not (np.asarray(scale, np.float32).view(np.uint32) & 0xFFFF).any() for scale in kernels
    )
    samples = np.random.default_rng(1).normal(size=(4, 8, 8, 8)).astype(np.float32)
    assert verify(model, path, samples).exact
    info = inspect(container.read_bytes())
    coded = {t.name: t for t in info.tensors}
    scale = coded["conv/kernel scale"]
    assert scale.weights == 96 and scale.coded_bytes + scale.table_bytes <= 1.5 * scale.weights
    export_tflite(model, path, tmp_path / "f32.tqw")
    assert verify(model, path, samples).exact
    assert len(container.read_bytes()) < (tmp_path / "f32.tqw").stat().st_size - 96


def test_other_types_are_refused(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"one of float32, bfloat16\. Received: scale_dtype='float16'"
    ):
        export_tflite(model, tmp_path / "m.tflite", scale_dtype="float16")
    assert not list(tmp_path.iterdir())
