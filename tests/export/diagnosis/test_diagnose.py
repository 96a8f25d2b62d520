"""`diagnose` names the tensor that loses values, the cause and the remedy; sound nets get none."""

import json

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import run_python
from tfqreg.errors import ModelError
from tfqreg.export.diagnosis.measure import snr_db
from tfqreg.export.diagnosis.reference import float_values, numbered

layers = keras.layers

# `calibrate` warns of the plainest of them: tests/test_seen_ranges.py.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* lost:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*calibration saw one value only:UserWarning"),
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def detector(joined: bool) -> keras.Model:
    """Boxes in pixels and scores of 0 to 1, in one output or in two."""
    keras.utils.set_random_seed(1)
    x = keras.Input((16, 16, 3), name="image")
    y = layers.Conv2D(8, 3, 4, "same", activation="relu", name="stem")(x)
    boxes = layers.Reshape((16, 4))(layers.Conv2D(4, 1, name="box")(y) * 640.0)
    scores = layers.Conv2D(5, 1, activation="sigmoid", name="class")(y)
    scores = layers.Reshape((16, 5), name="scores")(scores)
    outputs = layers.Concatenate(name="found")([boxes, scores]) if joined else [boxes, scores]
    return keras.Model(x, outputs)


def calibrated(model: keras.Model, x: np.ndarray, rules=None) -> keras.Model:
    return tq.calibrate(tq.quantize(model, rules), x, verbose=0)


def dense_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16,), name="x"),
            layers.Dense(32, activation="relu", name="first"),
            layers.Dense(32, activation="relu", name="second"),
            layers.Dense(4, name="last"),
        ]
    )


def test_scores_that_share_a_grid_with_pixels():
    x, model = np.abs(normal(32, 16, 16, 3)), detector(joined=True)
    found = tq.diagnose(calibrated(model, x), x, reference=model)
    scores = found.worst[0]
    assert scores.name.startswith("class_sigmoid")
    assert scores.spans.max() == 0 and scores.own_snr_db == 0
    cause = found.causes[scores.name]
    assert "shares its grid with box, whose values are larger" in cause.words
    assert "separate outputs" in cause.remedy
    assert cause.words in str(found)


def test_the_remedy_works():
    x, model = np.abs(normal(32, 16, 16, 3)), detector(joined=False)
    found = tq.diagnose(calibrated(model, x), x, reference=model)
    assert not [name for name in found.causes if name.startswith(("class", "scores", "found"))]
    assert all(ratio is not None and ratio > 20 for ratio in found.outputs.values())


def test_columns_of_very_different_ranges():
    model = dense_net()
    x = normal(64, 16) * np.where(np.arange(16) == 3, 4000, 1).astype(np.float32)
    found = tq.diagnose(calibrated(model, x), x, reference=model)
    given = next(tensor for tensor in found.worst[:3] if tensor.kind == "INPUT")
    assert (given.spans < 4).sum() == 15
    assert given.snr_db > 30 > 1 > given.worst_channel_db
    assert "15 of 16 channels (0, 1, 2, 4, 5, 6, ...)" in found.causes["x"].words
    assert "channel 3 sets the range" in found.causes["x"].words


def test_calibrated_on_black_images():
    model, x = dense_net(), normal(64, 16)
    found = tq.diagnose(calibrated(model, np.zeros((64, 16), np.float32)), x, reference=model)
    assert "of its 255 steps" in found.causes["x"].words
    assert "tfqreg.calibrate" in found.causes["x"].remedy
    narrow = tq.diagnose(calibrated(model, x / 3), x, reference=model)
    assert "lie beyond its grid" in narrow.causes["x"].words


def test_calibrated_on_values_255_times_too_large():
    model, x = dense_net(), normal(64, 16)
    found = tq.diagnose(calibrated(model, 255 * x), x, reference=model)
    assert "of its 255 steps" in found.causes["x"].words


def test_own_and_inherited_error():
    model, x = dense_net(), normal(256, 16)
    rules = [tq.Rule("first", weights=tq.Uniform(2)), tq.Rule(".*")]
    found = tq.diagnose(calibrated(model, x, rules), x, reference=model)
    figures = {tensor.name: tensor for tensor in found.tensors}
    first, second = figures["first"], figures["second"]
    assert first.own_snr_db == pytest.approx(first.snr_db, abs=0.5)
    assert first.snr_db < 15 < 20 < second.own_snr_db
    assert second.snr_db < second.own_snr_db - 10
    assert found.causes["first"] == (
        "its weights have 2 bits",
        'tfqreg.Rule("first", weights=tfqreg.Uniform(bits=4))',
        1,
    )
    assert found.causes["second"].words == "the error comes from the layers before it"
    assert found.worst[0].name == "first"


def test_a_sound_net():
    model, x = dense_net(), normal(256, 16)
    found = tq.diagnose(calibrated(model, x), x, reference=model)
    assert found.causes == {}
    assert str(found).endswith("no tensor stands out")
    (ratio,) = found.outputs.values()
    assert ratio is not None and 25 < ratio < 60


def test_a_unit_that_is_dead_in_the_float_net_too():
    model, x = dense_net(), normal(64, 16)
    kernel, bias = model.get_layer("first").get_weights()
    kernel[:, 5], bias[5] = 0, -1
    model.get_layer("first").set_weights([kernel, bias])
    found = tq.diagnose(calibrated(model, x), x, reference=model)
    first = next(tensor for tensor in found.tensors if tensor.name == "first")
    assert first.spans[5] == 0 and not first.moving[5]
    assert "first" not in found.causes
    assert "first" in tq.diagnose(calibrated(model, x), x).causes


def test_without_a_reference_and_with_a_wrong_one():
    model, x = dense_net(), normal(64, 16)
    q = calibrated(model, x)
    found = tq.diagnose(q, x)
    assert found.outputs == {"last": None}
    assert "without reference=" in str(found)
    assert "not compared" in found.line()
    other = keras.Sequential([keras.Input((16,), name="z"), layers.Dense(4, name="other")])
    with pytest.raises(ModelError, match="the float model must be the one that was quantized"):
        tq.diagnose(q, x, reference=other)


def test_nested_models_and_several_inputs():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(6, "relu", name="fc")], name="inner")
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    y = layers.Add(name="sum")([inner(a), layers.Dense(6, name="beside")(b)])
    model = keras.Model([a, b], layers.Dense(3, name="head")(y))
    x = [normal(40, 8), normal(40, 8, seed=1)]
    q = tq.calibrate(tq.quantize(model), [(tuple(x),)], verbose=0)
    found = tq.diagnose(q, x, reference=model)
    assert {tensor.name for tensor in found.tensors} >= {"a", "b", "inner/fc", "sum", "head"}
    assert all(t.snr_db is not None and t.snr_db > 25 for t in found.tensors)


def test_node_data_for_model_explorer():
    model, x = dense_net(), normal(64, 16)
    data = json.loads(tq.diagnose(calibrated(model, x), x, reference=model).to_json())
    assert set(data["main"]["results"]) == {"x", "first", "second", "last"}
    assert all(20 < entry["value"] < 80 for entry in data["main"]["results"].values())


def test_ratios_by_hand():
    assert snr_db(np.array([3, 4]), np.array([3, 4])) == np.inf
    assert snr_db(np.array([0, 0]), np.array([0, 1])) == -np.inf
    assert snr_db(np.array([10, 0]), np.array([9, 0])) == pytest.approx(20)
    assert numbered(["a", "b", "a", "a"]) == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]


def test_the_float_values_are_those_of_the_float_model():
    model, x = dense_net(), normal(40, 16)
    values, (last,) = float_values(model, x, batch_size=16)
    inner = keras.Model(model.inputs, [layer.output for layer in model.layers])
    expected = inner.predict(x, verbose=0)
    for name, found in zip(("first", "second", "last"), expected, strict=True):
        place = next(place for place in values if place[0].startswith(name))
        np.testing.assert_allclose(values[place], found, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(last, expected[-1], rtol=1e-5, atol=1e-5)


def test_it_loads_at_its_first_use():
    code = "import tfqreg, sys; print([m for m in sys.modules if m.startswith('tfqreg.export')])"
    assert run_python(code).strip() == "[]"
