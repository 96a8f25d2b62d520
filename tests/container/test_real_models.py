"""Files that TensorFlow's converter writes: int8, float and with metadata appended."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfqreg.export.container import inspect, pack, unpack


@pytest.fixture(scope="module")
def convert() -> Callable[[bool], bytes]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )

    def run(int8: bool) -> bytes:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if int8:
            samples = np.random.default_rng(0).random((4, 1, 8, 8, 3), np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sample] for sample in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return converter.convert()

    return run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("tail", [b"", b"PK\x03\x04labels.txt" + bytes(500)])
def test_round_trip(convert: Callable[[bool], bytes], int8: bool, tail: bytes) -> None:
    model = convert(int8) + tail
    container = pack(model)
    assert unpack(container) == model
    assert len(container) < 0.95 * len(model)
    info = inspect(container)
    assert max(tensor.weights for tensor in info.tensors) == 6 * 6 * 16 * 10
    assert info.spans["PRODUCT_F32"].count == (1 if int8 else 0)
