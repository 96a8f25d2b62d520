"""Dead units leave the model; its outputs, in float and in integers, do not change."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net, dense_net, kernels
from tfqreg.export import lower, simulate
from tfqreg.export.verification.samples import graph_inputs

IMAGES = np.random.default_rng(0).random((16, 12, 12, 2)).astype(np.float32)


def chain(
    seed: int = 0, padding: str = "valid", bias: bool = True, pool: bool = False
) -> keras.Model:
    keras.utils.set_random_seed(seed)
    pooling = layers.AveragePooling2D(2) if pool else layers.MaxPooling2D(2)
    return keras.Sequential(
        [
            keras.Input((12, 12, 2), name="image"),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            pooling,
            layers.Conv2D(10, 3, padding=padding, use_bias=bias, name="second"),
            layers.Flatten(),
            layers.Dense(12, activation="relu", name="third"),
            layers.Dense(3, name="last"),
        ]
    )


def pruned(model: keras.Model, keep: float, seed: int = 0, **arguments) -> keras.Model:
    """The model wrapped, calibrated, its masks random and final, its biases too."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if getattr(layer, "use_bias", False):
            layer.bias.assign(random.normal(size=layer.bias.shape) / 4)
    rule = tq.Rule(".*", tq.Uniform(4, **arguments), tq.MSQE(), tq.PartialL2(0.9))
    q = tq.quantize(model, [rule])
    tq.calibrate(q, IMAGES, verbose=0, correct_bias=False)
    for kernel, variable in kernels(q):
        mask = random.random(variable.shape) < keep
        mask.flat[random.integers(mask.size)] = True
        kernel.freeze(variable, mask)
    return q


def codes_out(model: keras.Model) -> np.ndarray:
    graph = lower(model)
    return simulate(graph, graph_inputs(graph, IMAGES), keep={graph.outputs[0]})[graph.outputs[0]]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_a_chain_shrinks_and_its_integers_stay(pool, per_channel):
    q = pruned(chain(pool=pool), 0.04, per_channel=per_channel)
    small = tq.remove_dead_units(q)
    assert small.get_layer("first").layer.filters < 8 and small.get_layer("third").layer.units < 12
    assert small.count_params() < 0.7 * q.count_params()
    np.testing.assert_array_equal(codes_out(small), codes_out(q))
    np.testing.assert_allclose(small(IMAGES), q(IMAGES), atol=1e-5)
    for (kernel, w), (old, v) in zip(kernels(small), kernels(q), strict=True):
        assert int(kernel.mask.numpy().sum()) <= int(old.mask.numpy().sum())
        assert kernel.frozen and int(kernel.stage) == int(old.stage)
        assert set(np.unique(kernel.encode(w)[0])) <= set(np.unique(old.encode(v)[0]))
    assert len({id(kernel.regularizer) for kernel, _ in kernels(small)}) == 1


def test_a_constant_unit_moves_into_the_bias():
    model = chain()
    kernel = model.get_layer("third").kernel
    kernel.assign(np.where(np.arange(12) == 5, 0.0, kernel.numpy()))
    model.get_layer("third").bias.assign(np.linspace(0.1, 1.2, 12))
    before = model(IMAGES)
    small = tq.remove_dead_units(model)
    assert small.get_layer("third").units == 11
    gain = 0.6 * model.get_layer("last").kernel.numpy()[5]
    np.testing.assert_allclose(
        small.get_layer("last").bias, model.get_layer("last").bias.numpy() + gain, rtol=1e-6
    )
    np.testing.assert_allclose(small(IMAGES), before, atol=1e-6)


@pytest.mark.parametrize(("padding", "bias"), [("same", True), ("valid", False)])
def test_a_constant_that_no_bias_can_hold_stays(padding, bias):
    model = chain(padding=padding, bias=bias)
    first = model.get_layer("first")
    first.kernel.assign(np.where(np.arange(8) < 2, 0.0, first.kernel.numpy()))
    first.bias.assign(
        np.where(np.arange(8) == 0, 0.5, -0.5)
    )  # unit 1 gives relu(-0.5) = 0: it may go
    small = tq.remove_dead_units(model)
    assert small.get_layer("first").filters == 7
    np.testing.assert_allclose(small(IMAGES), model(IMAGES), atol=1e-6)


def test_norms_and_depthwise_layers_lose_their_channels():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 2))
    x = layers.Conv2D(6, 3, use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="pointwise")(x))
    q = tq.quantize(
        keras.Model(inputs, x),
        [tq.Rule(".*", tq.Uniform(4, per_channel=True), prune=tq.PartialL2(0.5))],
    )
    q.compile("sgd", "mse")
    q.fit(IMAGES, np.zeros((16, 4), np.float32), epochs=1, verbose=0, callbacks=tq.callbacks_for(q))
    pointwise, variable = kernels(q)[2]
    pointwise.mask.assign(np.arange(6)[:, None] % 2 & np.ones((1, 1, 1, 4), np.int64) > 0)
    small = tq.remove_dead_units(q)
    assert [
        small.get_layer(name).layer.kernel.shape[-2] for name in ("depthwise", "pointwise")
    ] == [3, 3]
    assert small.get_layer("norm").gamma.shape == (3,) and variable.shape[-2] == 6
    np.testing.assert_array_equal(codes_out(small), codes_out(q))


def test_it_trains_on_and_is_saved(tmp_path):
    small = tq.remove_dead_units(pruned(chain(), 0.05))
    small.compile("adam", "mse")
    small.fit(
        IMAGES,
        np.zeros((16, 3), np.float32),
        epochs=1,
        verbose=0,
        callbacks=tq.callbacks_for(small),
    )
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(loaded(IMAGES), small(IMAGES))
    np.testing.assert_array_equal(codes_out(loaded), codes_out(small))


def test_what_branches_or_lives_is_left_alone():
    model = conv_net()
    model.get_layer("pointwise").kernel.assign(0.0 * model.get_layer("pointwise").kernel)
    assert tq.remove_dead_units(model) is model  # its output goes into an addition
    assert tq.remove_dead_units(dense_net()).count_params() == dense_net().count_params()
    with pytest.raises(TypeError, match="subclassed"):
        tq.remove_dead_units(type("Own", (keras.Model,), {})())


def test_a_layer_all_dead_keeps_one_unit():
    model = dense_net()
    model.get_layer("head").kernel.assign(np.zeros((16, 1)))
    small = tq.remove_dead_units(model)
    assert small.get_layer("body").units == 1
    np.testing.assert_allclose(small(np.ones((2, 6))), model(np.ones((2, 6))), atol=1e-7)


@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_weak_units_go_first_and_the_share_is_met(keep):
    model = chain()
    last = model.get_layer("last")
    last.kernel.assign(
        np.where(np.arange(12)[:, None] < 4, 1e-6 * last.kernel.numpy(), last.kernel.numpy())
    )
    before = model.get_weights()
    small = tq.drop_weak_units(model, keep)
    sizes = [sum(w.size for w in net.get_weights() if w.ndim > 1) for net in (small, model)]
    assert 0.5 * keep < sizes[0] / sizes[1] <= keep
    assert small.get_layer("third").units <= 8
    assert np.abs(small.get_layer("last").kernel).min() > 1e-5  # the four weak ones are gone
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_share_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"keep <= 1. Received: keep=0"):
        tq.drop_weak_units(dense_net(), 0)
