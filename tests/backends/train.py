"""Trains a small net by each method on the Keras backend that is set; saves, loads and strips it:
`python -m tests.backends.train FOLDER METHOD...`.

It imports neither TensorFlow nor what needs it.
"""

import sys

import keras
import numpy as np
from keras import layers

import tfqreg as tq

RULES = {
    "msqe": lambda: [
        tq.Rule("conv", tq.Uniform(3, per_channel=True), tq.MSQE(), tq.PartialL2(0.5)),
        tq.Rule("head", tq.Uniform(1, scale_from="task")),
    ],
    "sinreq": lambda: [tq.Rule("", tq.Uniform(4), tq.SinReQ())],
    "learned_bits": lambda: [tq.Rule("", tq.LearnedBits(), tq.SinAReQ(), tq.PartialL2(0.5))],
    "alq": lambda: [tq.Rule("", tq.MultiBit(bases=3))],
    "focused": lambda: [tq.Rule("", tq.Focused(), prune=tq.Surgery(0.5))],
    "power_of_two": lambda: [tq.Rule("", tq.PowerOfTwo(), prune=tq.Surgery(0.5))],
}


def data() -> tuple[np.ndarray, np.ndarray]:
    """Small images and two targets each."""
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
    return x, np.tanh(x.mean((1, 2)))


def net(method: str) -> keras.Model:
    """The net, quantized as a method wants it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    outputs = layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x))
    return tq.quantize(keras.Model(inputs, outputs), RULES[method](), activations=4)


def train(method: str) -> tuple[keras.Model, tq.Monitor]:
    """A trained net, and what the training went through."""
    model, monitor = net(method), tq.Monitor()
    x, y = data()
    model.compile(tq.ALQ(0.01) if method == "alq" else keras.optimizers.Adam(0.01), "mse")
    steps = [tq.ALQRounds(bits=1.5, rounds=1)] if method == "alq" else tq.callbacks_for(model)
    before = np.mean((model.predict(x, verbose=0) - y) ** 2)
    model.fit(x, y, batch_size=8, epochs=10, callbacks=[*steps, monitor], verbose=0)
    assert np.mean((model.predict(x, verbose=0) - y) ** 2) < before
    return model, monitor


def check_kernels(model: keras.Model) -> None:
    """The weights in use are those that the codes decode to, and pruned where that was asked."""
    for wrapper in (model.get_layer("conv"), model.get_layer("head")):
        ((kernel, variable),) = wrapper.kernel_pairs()
        codes, params = kernel.encode(variable)
        used = keras.ops.convert_to_numpy(kernel.quantized(variable))
        np.testing.assert_array_equal(used, kernel.quantizer.decode(codes, params))
        if kernel.prune is not None:
            assert not used[~keras.ops.convert_to_numpy(kernel.mask).astype(bool)].any()
            assert kernel.frozen


def main(method: str, path: str) -> None:
    """Trains, saves, loads, strips."""
    x, _ = data()
    model, monitor = train(method)
    check_kernels(model)
    if method == "msqe":
        ((kernel, _),) = model.get_layer("conv").kernel_pairs()
        assert 1 - np.mean(keras.ops.convert_to_numpy(kernel.mask)) == 0.5
        stages = [round(row["conv/kernel"]["stage"]) for row in monitor.rows]
        assert stages == [0] * 4 + [1] * 4 + [2] * 2
        assert float(kernel.regularizer.omega) == float(kernel.regularizer.largest_omega)
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert tq.strip(model).predict(x, verbose=0).shape == (32, 2)


def activations() -> None:
    """Activations of one bit and those trained by the loss learn their scales."""
    _, y = data()
    one_bit = tq.QuantizedActivation(1)
    by_loss = tq.QuantizedActivation(3, scale_from="task")
    small = keras.Sequential([keras.Input((2,)), one_bit, tq.Quantized(layers.Dense(4)), by_loss])
    small.compile(keras.optimizers.SGD(0.1), "mse")
    small.predict(y, verbose=0)
    small.fit(y, y[:, [0, 1, 0, 1]], epochs=2, verbose=0)
    for layer in (one_bit, by_loss):
        assert np.isfinite(layer.encode()[0]) and float(layer.log2_scale) != 0


if __name__ == "__main__":
    folder = sys.argv[1]
    for name in sys.argv[2:]:
        main(name, f"{folder}/{name}.keras")
    activations()
    absent = {"tensorflow", "ai_edge_litert"} - {keras.backend.backend()}
    assert not absent & set(sys.modules)
    print("trained", keras.backend.backend(), *sys.argv[2:])
