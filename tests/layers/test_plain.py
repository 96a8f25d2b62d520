"""What TensorFlow has no plain kernel for gives the same numbers and gradients, with oneDNN and
without it.
"""

import json

import pytest

from tests.tiny_nets import run_python

# Compares the wrapper's outputs and gradients, computed eagerly and in a graph, with those of the
# layer alone under XLA, which has all kernels. Prints by case what `check`, `calibrate` and the
# lowering say, the operators among it.
CASES = """
import json, sys
import keras, numpy as np, tensorflow as tf
import tfqreg as tq
from keras import layers
from tfqreg.export import check
from tfqreg.export.lowering.lower import lower

FIRST = "channels_first"
DILATED = {"dilation_rate": 2, "name": "c"}
depthwise = lambda *args, **kwargs: layers.DepthwiseConv2D(*args, name="c", **kwargs)
transposed = lambda *args, **kwargs: layers.Conv2DTranspose(3, *args, name="c", **kwargs)
cases = {
    "strides": ((7, 9, 4), depthwise(3, (1, 2), "same")),
    "strides, valid": ((8, 9, 4), depthwise((2, 3), (3, 1), depth_multiplier=2)),
    "strides, dilated": ((8, 9, 4), depthwise(3, (1, 2), "same", dilation_rate=(1, 2))),
    "strides, even": ((8, 7, 4), depthwise(4, (2, 3), "same", activation="relu")),
    "strides, first": ((4, 8, 9), depthwise(3, (2, 1), "same", data_format=FIRST)),
    "dilated": ((5, 7, 4), transposed(3, padding="same", dilation_rate=2)),
    "dilated, valid": ((5, 7, 4), transposed((2, 3), dilation_rate=(3, 2), activation="relu")),
    "dilated, one axis": ((5, 7, 4), transposed(4, padding="same", dilation_rate=(1, 2))),
    "dilated, rows": ((7, 4), layers.Conv1DTranspose(3, 3, padding="same", **DILATED)),
    "dilated, first": ((4, 5, 7), transposed(3, dilation_rate=2, data_format=FIRST)),
    "first": ((4, 5, 7), layers.Conv2D(3, 3, 2, "same", FIRST, activation="relu", name="c")),
    "first, rows": ((4, 7), layers.Conv1D(3, 3, data_format=FIRST, name="c")),
    "first, transposed": ((4, 5, 7), transposed(3, 2, "same", data_format=FIRST)),
}

def said(action):
    try:
        action()
        return "fine"
    except ValueError as error:
        return str(error)

def gradients(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        square = tf.reduce_sum(y * y)
    return [y, *tape.gradient(square, [x, *(v.value for v in variables)])]

found = {}
for name, (shape, layer) in cases.items():
    keras.utils.set_random_seed(0)
    x = keras.Input(shape, name="x")
    model = keras.Model(x, layer(x))
    data = tf.constant(np.random.default_rng(0).normal(size=(3, *shape)).astype("float32"))
    wrapper = tq.Quantized(layer, name="w")
    wrapper.build((None, *shape))
    kernel, = wrapper.kernels.values()
    kernel.stage.assign(0)  # float weights
    variables = layer.trainable_variables
    if sys.argv[1] == "0":  # the compiler is slow, and one setting shows the numbers
        wanted = tf.function(lambda x: gradients(layer, x), jit_compile=True)(data)
        ways = [lambda x: gradients(wrapper, x), tf.function(lambda x: gradients(wrapper, x))]
        for way in ways:
            for a, b in zip(way(data), wanted, strict=True):
                assert a.shape == b.shape, (name, a.shape, b.shape)
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(model)
    q = tq.quantize(model)
    found[name] = [
        [str(finding) for finding in check(model)],
        said(lambda: tq.calibrate(q, np.asarray(data), verbose=0)),
        said(lambda: [op.kind for op in lower(q).ops]),
    ]
    q.compile("sgd", "mse", run_eagerly=True)
    q.train_on_batch(np.asarray(data), np.zeros(q(data).shape, "float32"))
print(json.dumps(found))
"""


@pytest.mark.long
def test_every_setting_of_onednn_says_the_same(monkeypatch):
    said = []
    for setting in "01":
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
        said.append(json.loads(run_python(CASES, setting).splitlines()[-1]))
    assert said[0] == said[1]
    assert all(calibrated == "fine" for _, calibrated, _ in said[0].values())
    refused = {name for name, (findings, _, _) in said[0].items() if findings}
    assert refused == {name for name in said[0] if "first" in name or name.startswith("dilated")}
