"""Statistics of BatchNormalization measured anew, against numpy."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net, dense_net

RNG = np.random.default_rng(0)


def norm_net() -> keras.Model:
    inputs = keras.Input((3,))
    x = layers.BatchNormalization(epsilon=1e-3, name="first")(inputs)
    x = layers.Dense(2, use_bias=False, name="dense")(x)
    return keras.Model(
        inputs, layers.BatchNormalization(epsilon=1e-3, name="second")(layers.Dropout(0.5)(x))
    )


def test_averages_over_batches_of_unequal_size():
    model, x = norm_net(), RNG.normal(2.0, 3.0, (10, 3)).astype(np.float32)
    kernel = np.asarray(model.get_layer("dense").kernel)
    tq.reestimate_norms(model, x, batch_size=4, verbose=0)
    batches = [x[:4], x[4:8], x[8:]]

    def averages(values):
        sizes = [len(v) for v in values]
        return [
            np.average([f(v, axis=0) for v in values], axis=0, weights=sizes)
            for f in (np.mean, np.var)
        ]

    normal = [
        (b - b.mean(0)) / np.sqrt(b.var(0) + 1e-3) @ kernel for b in batches
    ]  # dropout is off
    for name, (mean, variance) in {"first": averages(batches), "second": averages(normal)}.items():
        np.testing.assert_allclose(model.get_layer(name).moving_mean, mean, atol=1e-5)
        np.testing.assert_allclose(
            model.get_layer(name).moving_variance, variance, rtol=1e-4, atol=1e-6
        )


def test_nothing_else_changes_and_a_second_call_neither():
    model = norm_net()
    x, kernel = (
        RNG.normal(size=(12, 3)).astype(np.float32),
        np.array(model.get_layer("dense").kernel),
    )
    tq.reestimate_norms(model, x, verbose=0)
    once = [np.array(w) for w in model.get_weights()]
    tq.reestimate_norms(model, [(x, np.zeros(12))], verbose=0)  # batches with labels
    for before, after in zip(once, model.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("dense").kernel, kernel)
    assert [model.get_layer(name).momentum for name in ("first", "second")] == [0.99, 0.99]
    assert "call" not in vars(model.get_layer("first"))


def test_a_frozen_one_stays():
    model = norm_net()
    model.get_layer("first").trainable = False
    tq.reestimate_norms(model, RNG.normal(5.0, 1.0, (8, 3)).astype(np.float32), verbose=0)
    np.testing.assert_array_equal(model.get_layer("first").moving_mean, np.zeros(3))
    assert np.any(model.get_layer("second").moving_mean)


def test_a_quantized_model_keeps_its_grids(capsys):
    x = RNG.normal(size=(16, 8, 8, 2)).astype(np.float32)
    q = tq.calibrate(tq.quantize(conv_net()), x, verbose=0)
    norm = q.get_layer("stem_norm")
    norm.moving_mean.assign(norm.moving_mean + 3.0)
    grids = [
        layer.encode() for layer in q._flatten_layers() if isinstance(layer, tq.QuantizedActivation)
    ]
    tq.reestimate_norms(q, x, batch_size=8)
    assert grids == [
        layer.encode() for layer in q._flatten_layers() if isinstance(layer, tq.QuantizedActivation)
    ]
    assert np.all(np.abs(norm.moving_mean) < 1.5)
    assert "2/2" in capsys.readouterr().out


def test_bad_input():
    with pytest.raises(ValueError, match="dense_net: no BatchNormalization to measure"):
        tq.reestimate_norms(dense_net(), np.zeros((4, 6), "float32"))
    with pytest.raises(
        ValueError, match=r"no data to measure BatchNormalization on. Received: \[\]"
    ):
        tq.reestimate_norms(norm_net(), [], verbose=0)
