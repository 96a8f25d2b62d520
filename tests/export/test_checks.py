"""`check` finds, before any training, all that `lower` refuses afterwards, in the same words."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.export import keras_nets as nets
from tests.export.keras_nets import conv, grid, norm
from tests.export.lowering.test_lower_errors import ERRORS
from tfqreg.errors import ModelError, ModelTypeError
from tfqreg.export import check
from tfqreg.export.finding import Finding
from tfqreg.export.lowering.lower import lower
from tfqreg.layers.queries import activation_layers


class Shift(layers.Layer):
    """Cannot be cloned: its configuration is not that of a plain layer."""

    def __init__(self, by: float) -> None:
        super().__init__(name="shift")
        self.by = by

    def call(self, x):
        return x + self.by


class Net(keras.Model):
    def call(self, x):
        return x


def of_image(function, shape=(8, 8, 3), dtype="float32") -> keras.Model:
    x = keras.Input(shape, name="x", dtype=dtype)
    return keras.Model(x, function(x))


def dense(x):
    return layers.Dense(2, name="head")(layers.Flatten(name="flat")(x))


UNSUPPORTED = {
    "contrast": lambda x: dense(layers.AutoContrast(name="contrast")(x)),
    "lam": lambda x: dense(layers.Lambda(tf.math.sinh, name="lam")(x)),
    "shift": lambda x: dense(Shift(1.0)(x)),
    "ln": lambda x: dense(layers.LayerNormalization(name="ln")(x)),
    "norm3": lambda x: dense(
        layers.TimeDistributed(conv(), name="norm3")(layers.Reshape((1, 8, 8, 3))(x))
    ),
    "lstm": lambda x: layers.Dense(2)(layers.LSTM(3, name="lstm")(layers.Reshape((8, 24))(x))),
    "attention": lambda x: dense(
        layers.MultiHeadAttention(2, 4, name="attention")(r := layers.Reshape((8, 24))(x), r)
    ),
    "volume": lambda x: dense(layers.Conv3D(2, 2, name="volume")(layers.Reshape((4, 4, 4, 3))(x))),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_has_no_integer_form_is_named_before_training(name):
    (found,) = check(of_image(UNSUPPORTED[name]))
    assert (found.path, found.severity) == (name, "error")
    assert "no integer form" in found.rule
    assert found.fix
    assert found.received


def test_an_embedding():
    (found,) = check(
        of_image(lambda x: dense(layers.Embedding(9, 2, name="words")(x)), (5,), "int32")
    )
    assert str(found).startswith("words: Embedding has no integer form. Look the vectors up")


REMEDIES = {
    "lam": "Write what it computes with keras.ops",
    "shift": "Apply the layers and keras.ops of its `call`",
    "ln": "Use BatchNormalization",
    "lstm": "Use causal or dilated Conv1D",
    "attention": "Use convolutions or Dense",
}


@pytest.mark.parametrize("name", REMEDIES)
def test_the_remedy_fits_the_layer(name):
    (found,) = check(of_image(UNSUPPORTED[name]))
    assert found.fix.startswith(REMEDIES[name])
    assert len(found.fix) < 160


def many_faults(x):
    x = layers.AutoContrast(name="first")(x)
    x = layers.Conv2D(4, 3, name="zeros", kernel_initializer="zeros")(x)
    x = layers.LayerNormalization(name="second")(x)
    x = layers.Softmax(axis=1, name="sound")(layers.Conv2D(4, 3, name="fine")(x))
    return dense(norm("fourth")(layers.ReLU(max_value=5, negative_slope=0.3, name="odd")(x)))


def test_everything_is_found_at_once():
    found = {f.path: f for f in check(of_image(many_faults))}
    assert {"first", "second", "zeros/kernel"} <= set(found)
    assert not {"fine", "sound", "fourth", "flat", "head"} & set(found)
    assert found["zeros/kernel"].rule.startswith("the kernel is all zeros")
    assert found["zeros/kernel"].severity == "warning"


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "uncalibrated"])
def test_check_and_export_agree(name):
    model = ERRORS[name][0]()
    errors = [f for f in check(model) if f.severity == "error"]
    assert all(f.path and f.rule and f.received for f in errors)
    try:
        lower(model)
    except ValueError as error:
        first = Finding.of(error)
        assert (first.path, first.rule, first.fix) in [(f.path, f.rule, f.fix) for f in errors]
    else:
        assert errors == []


@pytest.mark.parametrize("make", [nets.dense_blocks, nets.two_ends])
def test_what_check_passes_export_lowers(make):
    model = make()
    assert check(model) == []
    quantized = nets.calibrated(model)
    lower(quantized)
    assert check(quantized) == []


def test_a_model_without_scales_is_warned_of_and_left_alone():
    model = tq.quantize(of_image(lambda x: dense(conv()(x))))
    before = [weight.numpy().copy() for weight in model.weights]
    (found,) = check(model)
    assert (found.severity, found.path) == ("warning", activation_layers(model)[0].name)
    assert "tfqreg.calibrate(model, data)" in found.fix
    assert all(
        (weight.numpy() == old).all() for weight, old in zip(model.weights, before, strict=True)
    )
    with pytest.raises(ValueError, match=r"tfqreg\.calibrate"):
        lower(model)


def test_a_training_that_diverged_is_no_missing_scale():
    model = nets.calibrated(of_image(lambda x: dense(conv()(x))))
    layer = activation_layers(model)[1]
    layer.base_scale.assign(float("nan"))
    (found,) = check(model)
    assert (found.path, found.severity) == (layer.name, "error")
    assert (found.rule, found.received) == ("the training diverged", "scale=nan")
    assert np.isnan(layer.base_scale.numpy())
    with pytest.raises(ModelError, match=rf"^{layer.name}: the training diverged"):
        lower(model)


def test_a_real_divergence_names_a_layer():
    keras.utils.set_random_seed(0)
    model = tq.quantize(of_image(lambda x: dense(conv()(x))))
    model.compile(keras.optimizers.SGD(1e30), "mse")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    model.fit(x, np.ones((16, 2), np.float32), epochs=3, batch_size=8, verbose=0)
    errors = [f for f in check(model) if f.severity == "error"]
    assert errors
    assert all(f.path for f in errors)
    assert any("diverged" in f.rule or "the kernel holds NaN" in f.rule for f in errors)
    assert not any("not set" in f.rule for f in check(model))


def test_a_float_model_is_sent_to_calibration_by_export():
    with pytest.raises(
        ValueError, match=r"^lenet: the model has no quantizers\. Call .* tfqreg\.calibrate\(q"
    ):
        lower(nets.lenet())
    with pytest.raises(ValueError, match=r"^lam: Lambda has no integer form"):
        lower(of_image(UNSUPPORTED["lam"]))


def test_a_weight_with_two_scales():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")

    def twice(x):
        x = grid(0.1)(tq.Quantized(shared, name="one")(grid(0.1)(x)))
        return grid(0.1)(tq.Quantized(shared, weights=tq.Uniform(4), name="two")(x))

    (found,) = check(of_image(twice))
    assert found.path == "two"
    assert "a scale of their own in one as well" in found.rule
    with pytest.raises(
        ValueError, match=r"^two: its weights have a scale of their own in one as well\. Wrap"
    ):
        lower(of_image(twice))


def test_models_without_a_graph():
    (found,) = check(Net(name="net"))
    assert (found.path, found.received) == ("net", "Net")
    assert "subclassed" in found.rule
    (found,) = check(keras.Sequential([layers.Dense(2)], name="open"))
    assert found.rule == "the input shape is unknown"
    (found,) = check(
        of_image(lambda x: layers.GlobalAveragePooling2D()(conv()(x)), (None, None, 3))
    )
    assert (found.path, found.received) == ("x", "(None, None, None, 3)")


def test_a_target():
    model = of_image(lambda x: layers.DepthwiseConv2D(5, 4, name="deep")(x))
    assert check(model) == check(model, "tflite_cpu") == check(model, "ethos-u85-256") == []
    (found,) = check(model, "ethos-u55-128")
    assert (found.path, found.severity, found.received) == ("deep", "warning", "stride 4")
    assert found.rule.startswith(
        "ethos-u55-128 takes DEPTHWISE_CONV_2D with stride at most 3: it runs on the CPU"
    )
    with pytest.raises(
        ValueError, match=r"A target is one of .* tflite_cpu. Received: target='tpu'"
    ):
        check(model, "tpu")


@pytest.mark.parametrize(
    "error, parts, text",
    [
        (
            ModelError("a/b", "no", "Do c. Or d", "e=1"),
            ("a/b", "no", "e=1", "Do c. Or d"),
            "a/b: no. Do c. Or d. Received: e=1",
        ),
        (
            ModelTypeError("a", "by 0.5: at most", received="1.5"),
            ("a", "by 0.5: at most", "1.5", ""),
            "a: by 0.5: at most. Received: 1.5",
        ),
        (
            ModelError("a", "no", "Do c"),
            ("a", "no", "Net", "Do c"),
            "a: no. Do c. Received: Net",
        ),
        (
            KeyError("a: b. Do c"),
            ("", "'a: b. Do c'", "Net", ""),
            "'a: b. Do c'. Received: Net",
        ),
    ],
)
def test_findings_of_errors(error, parts, text):
    found = Finding.of(error, "Net")
    assert (found.path, found.rule, found.received, found.fix) == parts
    assert str(found) == text
