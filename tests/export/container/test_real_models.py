"""Files that TensorFlow's converter writes, of every kind that it does."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

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


@pytest.mark.filterwarnings("ignore")
def test_float16_and_sparse() -> None:
    """Dense kernels, one of them with zeros that the converter stores as a sparse tensor."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32), keras.layers.Dense(16)])
    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    kernel[np.random.default_rng(1).random((64, 32)) < 0.9] = 0
    model.layers[0].set_weights([kernel, np.zeros(32)])
    for optimization, types in (
        (tf.lite.Optimize.DEFAULT, [tf.float16]),
        (tf.lite.Optimize.EXPERIMENTAL_SPARSITY, []),
    ):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [optimization]
        if types:
            converter.target_spec.supported_types = types
        tflite = converter.convert()
        graph = schema.ModelT.InitFromPackedBuf(tflite).subgraphs[0]
        assert any(
            tensor.sparsity or tensor.type == schema.TensorType.FLOAT16 for tensor in graph.tensors
        )
        assert unpack(pack(tflite)) == tflite


@pytest.mark.filterwarnings("ignore")
def test_several_subgraphs() -> None:
    class Loop(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([4, 4])])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            return tf.while_loop(
                lambda y: tf.reduce_sum(y) < 100.0, lambda y: (y @ tf.eye(4) * 3.0,), (x,)
            )[0]

    module = Loop()
    function = module.__call__.get_concrete_function()
    tflite = tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()
    assert len(schema.ModelT.InitFromPackedBuf(tflite).subgraphs) > 1
    assert unpack(pack(tflite)) == tflite
