"""Ranges: learned grids with their choices; [0, 1] or uneven levels for what is never negative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqreg as tq
from tests.tiny_nets import dense_net, gradients
from tfqreg.layers.queries import activation_layers


def body_quantizer(activations, rules=None) -> tq.QuantizedActivation:
    q = tq.quantize(dense_net(), rules or [tq.Rule(".*")], activations)
    return next(layer for layer in activation_layers(q) if layer.name == "body_quantizer")


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_and_gradient(bits):
    n = 2**bits - 1
    layer = body_quantizer(tq.UnitRange(bits))
    x = np.linspace(-0.5, 1.5, 4001, dtype=np.float32)
    found = np.asarray(layer(x[None]))[0]
    expected = np.floor(np.clip(x, 0, 1).astype(np.float64) * n + 0.5) / n
    clear = np.abs(x * n % 1 - 0.5) > 1e-3  # ties aside
    np.testing.assert_allclose(found[clear], expected[clear], atol=1e-6)
    assert len(set(found.tolist())) == n + 1
    (in_x,) = gradients(lambda x: tf.reduce_sum(layer(x)), x[None])
    away = np.abs(np.abs(x - 0.5) - 0.5) > 1e-3  # the bounds aside
    np.testing.assert_array_equal(in_x[0][away], ((x > 0) & (x < 1)).astype(np.float32)[away])


def test_a_rule_may_ask_for_it_and_the_fewest_bits_count():
    layer = body_quantizer(8, [tq.Rule("body", activations=tq.UnitRange(3)), tq.Rule(".*")])
    assert (layer.bits, layer.fixed_scale) == (3, 1 / 7)


def test_what_may_be_negative_keeps_a_learned_grid():
    q = tq.quantize(dense_net(), activations=tq.UnitRange(2, signed_bits=6))
    grids = {layer.name: (layer.bits, layer.fixed_scale) for layer in activation_layers(q)}
    assert grids == {
        "features_quantizer": (6, None),
        "body_quantizer": (2, 1 / 3),
        "head_quantizer": (6, None),
    }


def test_training_and_a_saved_model_keep_it(tmp_path):
    q = tq.quantize(dense_net(), activations=tq.UnitRange(2))
    q.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    q.fit(x, x[:, :1], verbose=0)
    q.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), q.predict(x, verbose=0))
    assert float(again.get_layer("body_quantizer").scale) == np.float32(1 / 3)


@pytest.mark.parametrize("arguments", [{"bits": 0}, {"bits": 9}, {"signed_bits": 0}])
def test_bits_out_of_range(arguments):
    with pytest.raises(ValueError, match="UnitRange: `bits` must be a whole number of 1 to 8"):
        tq.UnitRange(**arguments)


def test_a_learned_range_hands_its_choices_to_every_quantizer():
    q = tq.quantize(dense_net(), activations=tq.LearnedRange(6, pull=0.5))
    assert {(layer.bits, layer.pull, layer.scale_from) for layer in activation_layers(q)} == {
        (6, 0.5, "msqe")
    }
    by_the_loss = body_quantizer(tq.LearnedRange(4, scale_from="task"))
    assert (by_the_loss.bits, by_the_loss.scale_from) == (4, "task")


def test_a_learned_range_is_checked_where_it_is_made():
    with pytest.raises(ValueError, match='LearnedRange: `scale_from` must be "msqe" or "task"'):
        tq.LearnedRange(scale_from="data")


def test_uneven_levels_stand_where_nothing_is_negative():
    q = tq.quantize(dense_net(), activations=tq.MultiBitRange(3, signed_bits=7))
    kinds = {layer.name: (type(layer).__name__, layer.bits) for layer in activation_layers(q)}
    learned = ("QuantizedActivation", 7)
    assert kinds == {
        "features_quantizer": learned,
        "body_quantizer": ("MultiBitActivation", 3),
        "head_quantizer": learned,
    }


@pytest.mark.parametrize("bits", [0, 5])
def test_multi_bit_activations_have_four_bits_at_most(bits):
    with pytest.raises(ValueError, match="MultiBitRange: `bits` must be a whole number of 1 to 4"):
        tq.MultiBitRange(bits)
