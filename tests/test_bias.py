"""Bias correction: the means of every channel are those of the float net again."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net
from tfqreg.bias import BiasCorrection

COARSE = [tq.Rule(".*", weights=tq.Uniform(3))]


def images(count: int = 32, shape: tuple[int, ...] = (8, 8, 2)) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(count, *shape)).astype(np.float32)


def corrected(model: keras.Model, x: np.ndarray, parts: int = 1) -> tuple[keras.Model, keras.Model]:
    """The quantized model as it was, and corrected; activations stay in float."""
    before, after = (tq.quantize(model, COARSE, activations=None) for _ in range(2))
    correction = BiasCorrection(after)
    for part in np.split(x, parts):
        with correction.reference():
            after(part)
        with correction.correcting():
            after(part)
    correction.apply()
    return before, after


def output_means(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    output = keras.Model(model.input, model.get_layer(name).output)(x)
    return np.asarray(output).reshape(-1, output.shape[-1]).mean(0)


def chain(*steps: layers.Layer, shape: tuple[int, ...] = (8, 8, 2)) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *steps])


@pytest.mark.parametrize("parts", [1, 4])
def test_means_are_those_of_the_float_net(parts):
    model, x = conv_net(), images()
    before, after = corrected(model, x, parts)
    for name in ("stem_norm", "pointwise", "head"):
        expected = output_means(model, name, x)
        moved = [np.abs(output_means(net, name, x) - expected).max() for net in (before, after)]
        assert moved[1] < (1e-5 if parts == 1 else 0.2 * moved[0])
        assert moved[0] > 1e-3


@pytest.mark.parametrize(
    "model",
    [
        chain(layers.Conv1D(4, 3), shape=(8, 2)),
        chain(layers.Conv2DTranspose(4, 3)),
        chain(layers.DepthwiseConv2D(3, depth_multiplier=2)),
        chain(layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization()),
    ],
    ids=["one dimension", "transposed", "depthwise", "norm"],
)
def test_means_behind(model):
    x = images(shape=model.input_shape[1:])
    before, after = corrected(model, x)
    before, after, expected = (np.asarray(net(x)) for net in (before, after, model))
    axes = tuple(range(expected.ndim - 1))
    assert np.abs(before.mean(axes) - expected.mean(axes)).max() > 1e-3
    np.testing.assert_allclose(after.mean(axes), expected.mean(axes), atol=1e-5)


def test_means_before_a_fused_activation():
    model, x = (
        chain(layers.Dense(4, activation="relu", name="body"), shape=(6,)),
        images(shape=(6,)),
    )
    _, after = corrected(model, x)
    wrapper = after.get_layer("body")
    rounded = wrapper.quantizer.decode(*wrapper.encode()["kernel"])
    found = x @ rounded + np.asarray(wrapper.layer.bias)
    np.testing.assert_allclose(
        found.mean(0), (x @ np.asarray(wrapper.layer.kernel)).mean(0), atol=1e-5
    )
    assert wrapper.layer.activation is keras.activations.relu


def test_layer_called_twice_gets_the_mean_of_both():
    keras.utils.set_random_seed(0)
    first, second, shared = keras.Input((4,)), keras.Input((4,)), layers.Dense(3, name="shared")
    model = keras.Model([first, second], [shared(first), shared(second)])
    x = [images(shape=(4,)), 2 * images(shape=(4,))]
    quantized = tq.quantize(model, COARSE, activations=None)
    correction = BiasCorrection(quantized)
    with correction.reference():
        quantized(x)
    with correction.correcting():
        quantized(x)
    correction.apply()
    moved = [np.asarray(a - b).mean(0) for a, b in zip(quantized(x), model(x), strict=True)]
    np.testing.assert_allclose(moved[0] + moved[1], 0, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        chain(layers.Conv2D(4, 3, use_bias=False), layers.ReLU()),
        chain(layers.Conv2D(4, 3, use_bias=False, activation="relu"), layers.BatchNormalization()),
        chain(
            layers.Conv2D(4, 3, use_bias=False), layers.MaxPooling2D(), layers.BatchNormalization()
        ),
    ],
    ids=["no bias", "activation between", "pool between"],
)
def test_what_has_no_bias_to_move_stays(model):
    before, after = corrected(model, images())
    for old, new in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_shared_norm_stays():
    keras.utils.set_random_seed(0)
    x, norm = keras.Input((8, 8, 2)), layers.BatchNormalization()
    convolutions = [layers.Conv2D(3, 3, use_bias=False) for _ in range(2)]
    before, after = corrected(keras.Model(x, [norm(conv(x)) for conv in convolutions]), images())
    for old, new in zip(before.weights, after.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_model_is_whole_after_a_failure():
    quantized = tq.quantize(conv_net(), COARSE)
    weights, config = [np.asarray(w) for w in quantized.weights], quantized.get_config()
    with pytest.raises(ValueError):
        tq.calibrate(quantized, np.full((4, 8, 8, 2), np.nan, np.float32), verbose=0)
    with pytest.raises(ValueError):
        tq.calibrate(quantized, np.zeros((4, 7, 7, 3), np.float32), verbose=0)
    for old, new in zip(weights, quantized.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert quantized.get_config() == config


def test_calibrate_without_correction_keeps_biases():
    model, x = conv_net(), images()
    plain, moved = (
        tq.calibrate(tq.quantize(model, COARSE), x, correct_bias=flag, verbose=0)
        for flag in (False, True)
    )
    assert not np.asarray(plain.get_layer("head").layer.bias).any()
    assert np.asarray(moved.get_layer("head").layer.bias).any()
    errors = [np.square(np.asarray(net(x) - model(x))).mean() for net in (plain, moved)]
    assert errors[1] < errors[0]


class Subclassed(keras.Model):
    """A convolution without bias, its BatchNormalization, and a classifier; no graph to walk."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = tq.Quantized(layers.Conv2D(4, 3, use_bias=False), tq.Uniform(3))
        self.norm, self.pool = layers.BatchNormalization(), layers.GlobalAveragePooling2D()
        self.quantizer = tq.QuantizedActivation()
        self.head = tq.Quantized(layers.Dense(3), tq.Uniform(3))

    def call(self, x):
        return self.head(self.quantizer(self.pool(self.norm(self.conv(x)))))


def test_subclassed_model_corrects_what_has_a_bias():
    keras.utils.set_random_seed(0)
    model = Subclassed()
    model(images())
    tq.calibrate(model, images(), verbose=0)
    assert np.asarray(model.head.layer.bias).any()
    assert not np.asarray(model.norm.moving_mean).any()
