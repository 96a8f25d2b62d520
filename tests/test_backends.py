"""A tiny training on the other backends of Keras."""

import os

import pytest

from tests.tiny_nets import run_python

TRAIN = """
import sys, keras, numpy as np, tfqreg as tq
from keras import layers
assert keras.backend.backend() == sys.argv[1]
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(32, 6, 6, 2)).astype("float32")
y = np.tanh(x.mean((1, 2)))
inputs = keras.Input((6, 6, 2))
h = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)))
net = keras.Model(inputs, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(h)))
q = tq.quantize(net, [
    tq.Rule("conv", tq.Uniform(3, per_channel=True), tq.MSQE(), tq.PartialL2(0.5)),
    tq.Rule("head", tq.Uniform(1, scale_from="task")),
], activations=4)
q.compile(keras.optimizers.Adam(0.01), "mse")
monitor = tq.Monitor()
error = lambda: np.mean((q.predict(x, verbose=0) - y) ** 2)
before = error()
q.fit(x, y, batch_size=8, epochs=10, callbacks=[*tq.callbacks_for(q), monitor], verbose=0)
assert error() < before
(kernel, variable), = q.get_layer("conv").kernel_pairs()
assert int(kernel.stage) == 2 and 1 - np.mean(keras.ops.convert_to_numpy(kernel.mask)) == 0.5
assert float(kernel.regularizer.omega) == float(kernel.regularizer.largest_omega)
for wrapper in (q.get_layer("conv"), q.get_layer("head")):
    (kernel, variable), = wrapper.kernel_pairs()
    codes, params = kernel.encode(variable)
    decoded = kernel.quantizer.decode(codes, params)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel.quantized(variable)), decoded)
q.save(sys.argv[2])
loaded = keras.models.load_model(sys.argv[2])
np.testing.assert_array_equal(loaded.predict(x, verbose=0), q.predict(x, verbose=0))
assert tq.strip(q).predict(x, verbose=0).shape == (32, 2)
assert [round(row["conv/kernel"]["stage"]) for row in monitor.rows] == [0] * 4 + [1] * 4 + [2] * 2

layers = [tq.QuantizedActivation(1), tq.Quantized(layers.Dense(4)), tq.QuantizedActivation(3, scale_from="task")]
small = keras.Sequential([keras.Input((2,)), *layers])
small.compile(keras.optimizers.SGD(0.1), "mse")
small.predict(y, verbose=0)
small.fit(y, y[:, [0, 1, 0, 1]], epochs=2, verbose=0)
assert all(np.isfinite(layer.encode()[0]) and float(layer.log2_scale) != 0 for layer in (layers[0], layers[2]))
print("trained")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training(backend, tmp_path):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    assert (
        run_python(TRAIN, backend, tmp_path / "m.keras", backend=backend).splitlines()[-1]
        == "trained"
    )


def test_training_here(tmp_path):
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    assert (
        run_python(TRAIN, backend, tmp_path / "m.keras", backend=backend).splitlines()[-1]
        == "trained"
    )
