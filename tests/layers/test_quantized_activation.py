"""The activation quantizer: its start, levels, gradients, and what is saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net, finite_difference, gradients, regression
from tfqreg.layers.activation import SAMPLE_SIZE, activation_error, first_samples
from tfqreg.layers.queries import activation_layers
from tfqreg.quantizers.uniform import least_squares_scale

X = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)


def with_grid(scale: float, low: float, **arguments) -> tq.QuantizedActivation:
    layer = tq.QuantizedActivation(**arguments)
    layer.assign_grid(scale, low)
    return layer


@pytest.mark.parametrize("source", ["msqe", "task"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_levels(bits, signed, source):
    low = -(2 ** (bits - 1)) if signed else 0
    layer = with_grid(0.25, low, bits=bits, scale_from=source)
    x = np.linspace(-(2.0**bits), 2.0**bits, 4096, dtype=np.float32)[None] * np.float32(0.25)
    expected = 0.25 * np.arange(low, low + 2**bits)
    for training in (False, True):
        np.testing.assert_allclose(np.unique(layer(x, training=training)), expected, rtol=1e-6)


@pytest.mark.parametrize("bits,scale", [(8, 0.0173), (4, 0.3), (2, 1.7), (1, 0.6)])
def test_every_value_goes_to_the_nearest_level(bits, scale):
    layer = with_grid(scale, -(2.0 ** (bits - 1)), bits=bits)
    levels = scale * np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    x = np.random.default_rng(1).normal(0, 2 * scale * 2**bits, (1, 500)).astype(np.float32)
    nearest = levels[np.argmin(np.abs(x.T - levels), axis=1)]
    np.testing.assert_allclose(np.asarray(layer(x))[0], nearest, rtol=1e-5, atol=1e-6)


def test_passes_its_input_through_until_data_was_seen():
    layer = tq.QuantizedActivation()
    np.testing.assert_array_equal(layer(X), X)
    with pytest.raises(
        ValueError,
        match=rf"{layer.name}: the scale is not set. Train the model, or call tfqreg.cal",
    ):
        layer.encode()


@pytest.mark.parametrize(
    "name, value", [("base_scale", np.nan), ("log2_scale", np.nan), ("log2_scale", -1e9)]
)
def test_a_training_that_diverged_is_named(name, value):
    layer = with_grid(0.5, 0)
    getattr(layer, name).assign(value)
    with pytest.raises(ValueError, match=rf"^{layer.name}: the training diverged\."):
        layer.encode()


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize(
    "signed,data,low_codes",
    [(None, X, True), (None, np.abs(X), False), (True, np.abs(X), True), (False, X, False)],
)
def test_the_first_batch_sets_the_grid(bits, signed, data, low_codes):
    layer = tq.QuantizedActivation(bits=bits, signed=signed)
    y = np.asarray(layer(data, training=True))
    scale, low = layer.encode()
    assert low == (-(2 ** (bits - 1)) if low_codes else 0)
    assert scale == pytest.approx(
        float(np.squeeze(least_squares_scale(data, low, low + 2**bits - 1))), rel=1e-6
    )
    np.testing.assert_allclose(
        y, scale * np.clip(np.round(data / scale), low, low + 2**bits - 1), rtol=1e-5, atol=1e-6
    )
    layer(100 * X, training=True)
    assert layer.encode() == (scale, low)  # the second batch does not


@pytest.mark.parametrize("share", [1 / 32, 1 / 8, 1 / 2, 7 / 8])
def test_calibration_gives_negative_values_the_share_of_levels_they_need(share):
    """A swish lies in [-0.28, large]: half of a symmetric grid would be lost."""
    layer = tq.QuantizedActivation(bits=8)
    x = np.random.default_rng(0).uniform(-share, 1 - share, (64, 50)).astype(np.float32)
    scale, low = (float(np.asarray(value)) for value in layer.fit_grid(x))
    assert low == -256 * share
    assert scale == pytest.approx(1 / 255, rel=0.03)


def test_a_first_batch_of_nan_or_zeros():
    layer = tq.QuantizedActivation(4)
    layer(np.full((2, 3), np.nan, np.float32), training=True)
    layer(X, training=True)
    assert np.isfinite(layer.encode()[0])
    layer = tq.QuantizedActivation(4)
    layer(np.zeros((2, 3), np.float32), training=True)
    assert layer.encode()[0] > 0


@pytest.mark.parametrize("source", ["msqe", "task"])
@pytest.mark.parametrize("bits,low", [(1, 0), (3, 0), (3, -4), (8, -128)])
def test_gradient_in_x_is_that_of_the_clipped_identity(bits, low, source):
    scale = 3.0 / 2**bits
    layer = with_grid(scale, low, bits=bits, scale_from=source)
    x = np.float32([[-2.9, -1.1, -0.21, 0.13, 0.62, 1.31, 2.5]])
    expected = finite_difference(
        lambda x: np.sum(scale * np.clip(x / scale, low, low + 2**bits - 1)), x
    )
    for training in (False, True):
        (gradient,) = gradients(lambda x, t=training: tf.reduce_sum(layer(x, training=t)), x)
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_the_error_trains_the_scale_alone():
    layer = with_grid(0.3, -4, bits=3)
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        layer(x, training=True)
        (error,) = layer.losses
    x64 = X.astype(np.float64)
    p = np.clip(np.round(x64 / 0.3), -4, 3)
    assert float(error) == pytest.approx(np.mean((x64 - 0.3 * p) ** 2), rel=1e-4)
    in_x, in_scale = tape.gradient(error, [x, layer.log2_scale.value])
    assert in_x is None
    expected = finite_difference(lambda s: np.mean((x64 - s * p) ** 2), 0.3) * 0.3 * np.log(2)
    np.testing.assert_allclose(in_scale, expected, rtol=1e-4)


def test_the_loss_does_not_reach_a_scale_that_fits_the_error():
    for bits in (1, 4):
        layer = with_grid(0.3, 0, bits=bits)
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(layer(X, training=True))
        gradient = tape.gradient(y, layer.log2_scale.value)
        assert gradient is None or not np.any(gradient)


@pytest.mark.parametrize("bits,low", [(1, 0), (3, -4), (4, 0)])
def test_the_loss_trains_a_scale_of_the_task(bits, low):
    layer, scale = with_grid(0.3, low, bits=bits, scale_from="task"), 0.3
    high, upstream = (
        low + 2**bits - 1,
        np.random.default_rng(2).normal(size=X.shape).astype(np.float32),
    )
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(upstream * layer(X, training=True))
    assert layer.losses == []
    x, v = X.astype(np.float64), X.astype(np.float64) / 0.3
    residual = np.clip(np.round(v), low, high) - np.clip(v, low, high)
    expected = finite_difference(
        lambda s: np.sum(upstream * s * (np.clip(x / s, low, high) + residual)), scale
    )
    expected *= scale * np.log(2) / np.sqrt(X.shape[1] * 2 ** (bits - 1))
    np.testing.assert_allclose(tape.gradient(y, layer.log2_scale.value), expected, rtol=1e-3)


def test_training_lowers_the_error():
    x, y = regression()
    model = keras.Sequential(
        [keras.Input((6,)), tq.QuantizedActivation(3, name="grid"), layers.Dense(1)]
    )
    grid = model.get_layer("grid")
    grid.assign_grid(2.0, -4)
    before = float(activation_error(x, *(float(v) for v in (grid.scale, grid.low, grid.high))))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, y, epochs=10, verbose=0)
    assert (
        float(activation_error(x, *(float(v) for v in (grid.scale, grid.low, grid.high))))
        < 0.5 * before
    )


def test_no_penalty_outside_training():
    layer = with_grid(0.3, 0)
    layer(X)
    assert layer.losses == []


def test_first_samples():
    assert first_samples(X).shape == X.shape
    large = np.zeros((8, SAMPLE_SIZE // 2 - 1))
    assert first_samples(large).shape[0] == 2
    assert first_samples(np.zeros((8, SAMPLE_SIZE * 2))).shape[0] == 1


def test_saved_in_the_midst_of_training(tmp_path):
    inputs = keras.Input((6,))
    quantized = tq.QuantizedActivation(4, signed=False, scale_from="task", name="grid")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(quantized))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(*regression(), verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.get_layer("grid").encode() == model.get_layer("grid").encode()
    assert float(loaded.get_layer("grid").log2_scale) != 0.0
    np.testing.assert_array_equal(loaded(regression()[0]), model(regression()[0]))


def test_config_round_trip():
    layer = tq.QuantizedActivation(3, signed=True, scale_from="task", name="grid")
    assert tq.QuantizedActivation.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("bits", [0, 9, 2.5, "8", True])
def test_bits_out_of_range(bits):
    with pytest.raises(
        ValueError, match=r"grid: `bits` must be a whole number of 1 to 8. Received: bits="
    ):
        tq.QuantizedActivation(bits, name="grid")


def test_unknown_source_of_the_scale():
    with pytest.raises(
        ValueError, match=r"grid: `scale_from` must be .* Received: scale_from='error'"
    ):
        tq.QuantizedActivation(8, scale_from="error", name="grid")


def test_a_fixed_scale_stays():
    layer = tq.QuantizedActivation(signed=True, fixed_scale=1 / 128)
    assert not layer.trainable_variables
    x = np.float32([[-2.0, -1.0, 0.004, 0.3, 2.0]])
    for training in (False, True):
        np.testing.assert_array_equal(
            layer(x, training=training), np.float32([[-1, -1, 1 / 128, 38 / 128, 127 / 128]])
        )
    assert layer.losses == []
    assert tuple(float(value) for value in layer.fit_grid(keras.ops.convert_to_tensor(x))) == (
        1 / 128,
        -128.0,
    )
    assert layer.encode() == (1 / 128, -128)
    assert type(layer).from_config(layer.get_config()).encode() == (1 / 128, -128)


@pytest.mark.parametrize("way", ["calibration", "training"])
def test_power_of_two_activations_have_powers_of_two_of_least_error(way):
    q = tq.quantize(conv_net(), activations=tq.LearnedRange(power_of_two=True))
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 2)).astype(np.float32)
    if way == "calibration":
        tq.calibrate(q, x, verbose=0)
    else:
        q(x, training=True)
    layers_found = activation_layers(q)
    assert len(layers_found) > 5
    for layer in layers_found:
        scale, low = layer.encode()
        assert np.frexp(scale)[0] == 0.5 and low in (0, -128) and not layer.trainable_variables
    scale, low = layers_found[0].encode()
    error = {
        s: np.mean((x - s * np.clip(np.round(x / s), -128, 127)) ** 2)
        for s in (scale / 2, scale, 2 * scale)
    }
    assert low == -128 and min(error, key=error.get) == scale
    again = keras.models.clone_model(q)
    assert all(layer.power_of_two for layer in activation_layers(again))


@pytest.mark.parametrize("arguments", [{"signed": True, "fixed_scale": -1.0}, {"fixed_scale": 0.5}])
def test_a_fixed_scale_is_positive_and_knows_its_sign(arguments):
    with pytest.raises(
        ValueError, match="a fixed scale must be positive, and `signed` True or False with it"
    ):
        tq.QuantizedActivation(**arguments)


# The squared error's pull on the activations themselves.


@pytest.mark.parametrize("pull", [0.0, 0.5, 2.0])
def test_the_error_pulls_the_activations_by_its_strength(pull):
    x, scale = np.random.default_rng(3).normal(size=(8, 5)).astype(np.float32), 0.4
    in_x, in_scale = gradients(
        lambda x, s: activation_error(x, s, -2.0, 1.0, pull), x, np.float32(scale)
    )
    codes = np.clip(np.round(x / scale), -2, 1).astype(np.float64)
    expected = finite_difference(lambda x: np.mean((x - scale * codes) ** 2), x)
    np.testing.assert_allclose(
        np.zeros(x.shape) if in_x is None else in_x, pull * expected, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(
        in_scale, finite_difference(lambda s: np.mean((x - s * codes) ** 2), scale), rtol=1e-3
    )


def test_a_pull_is_part_of_the_config_and_of_the_loss_in_training():
    layer = tq.QuantizedActivation(3, signed=True, pull=0.5, name="grid")
    assert tq.QuantizedActivation.from_config(layer.get_config()).pull == 0.5
    layer.assign_grid(0.4, -4.0)
    x = tf.constant(np.random.default_rng(3).normal(size=(8, 5)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        layer(x, training=True)
        (loss,) = layer.losses
    assert np.any(tape.gradient(loss, x))


@pytest.mark.parametrize(
    "arguments",
    [
        {"pull": -1.0},
        {"pull": float("nan")},
        {"pull": 1.0, "scale_from": "task"},
        {"pull": 1.0, "fixed_scale": 0.1, "signed": False},
    ],
)
def test_a_pull_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"grid: `pull` must be 0 or more.* Received: pull="):
        tq.QuantizedActivation(8, name="grid", **arguments)
