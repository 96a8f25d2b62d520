"""The container's bytes meet their target; the estimate follows the encoder; targets out of reach
are named.
"""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net
from tfqreg.export import container_size
from tfqreg.pruning.coded_size import code_bits

random = np.random.default_rng(0)
IMAGES = random.random((256, 12, 12, 3)).astype(np.float32)
LABELS = (IMAGES[:, :6].sum((1, 2, 3)) > IMAGES[:, 6:].sum((1, 2, 3))).astype(np.int64)


def conv_net(width: int = 8, norm: bool = False, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((12, 12, 3), name="image")
    for index in range(2):
        x = layers.Conv2D(width << index, 3, use_bias=not norm, name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"norm{index}")(x) if norm else x
        x = layers.ReLU(name=f"relu{index}")(x)
    x = layers.Dense(width, activation="relu", name="dense")(
        layers.Flatten(name="flatten")(layers.MaxPooling2D()(x))
    )
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def wrapped(model: keras.Model, prune: tq.regularizers.Pruning, bits: int = 3) -> keras.Model:
    q = tq.quantize(model, [tq.Rule(".*", tq.Uniform(bits), tq.Rate(1e-5), prune)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    q.compile(keras.optimizers.Adam(3e-3), loss)
    return q


def looking(q: keras.Model, target: int) -> tuple[tq.SizeBudget, keras.Model]:
    """A callback that has measured the skeleton of a calibrated model, and the model."""
    tq.calibrate(q, IMAGES, correct_bias=False, verbose=0)
    budget = tq.SizeBudget(target, container_size)
    budget.set_model(q)
    budget.set_params({"steps": 1, "epochs": 1})
    budget.on_train_begin()
    budget._find_skeleton()
    return budget, q


@pytest.mark.long
def test_the_container_meets_the_target():
    target = 1900
    q = wrapped(conv_net(), tq.PartialL2(0.8))
    budget = tq.SizeBudget(target, container_size, looks=2)
    history = q.fit(
        IMAGES, LABELS, epochs=6, batch_size=16, verbose=0, callbacks=[budget, *tq.callbacks_for(q)]
    )
    assert 0.93 * target < container_size(q) <= target
    assert history.history["container_bytes"][-1] == pytest.approx(container_size(q), rel=0.05)


@pytest.mark.parametrize(("norm", "bits"), [(False, 3), (True, 2), (False, 6)])
def test_the_estimate_follows_the_encoder_within_three_percent(norm, bits):
    budget, q = looking(wrapped(conv_net(norm=norm), tq.RateDistortion(0.9), bits), 10_000)
    for factor in (0.5, 0.8, 1.5, 3.0):
        with budget._frozen(budget._masks(factor), refit=True) as codes:
            assert budget._bytes(codes) == pytest.approx(container_size(q), rel=0.03)


def test_looking_changes_nothing():
    budget, q = looking(wrapped(conv_net(), tq.Surgery(0.8)), 1700)
    before = q.get_weights()
    factor, found = budget._fitting(True, most=5.0, looks=2)
    assert factor > 0.0 and 0.9 * 1700 < found <= 1700
    for old, new in zip(before, q.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.long
def test_a_target_under_the_skeleton_is_named_within_the_first_steps():
    q = wrapped(conv_net(), tq.RateDistortion(0.9))
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    steps: list[int] = []
    with pytest.raises(ValueError, match=r"bytes without its weights.*Received: target_bytes=500"):
        q.fit(
            IMAGES,
            LABELS,
            epochs=6,
            verbose=0,
            callbacks=[tq.SizeBudget(500, container_size), seen],
        )
    assert len(steps) <= 4


def test_a_model_that_prunes_nothing_is_named():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(4))])
    q.compile("sgd", "mse")
    with pytest.raises(ValueError, match="prunes nothing"):
        q.fit(
            np.ones((4, 6)),
            np.ones((4, 1)),
            verbose=0,
            callbacks=[tq.SizeBudget(500, container_size)],
        )
    with pytest.raises(ValueError, match=r"must be positive\. Received: target_bytes=0"):
        tq.SizeBudget(0, container_size)


@pytest.mark.parametrize("shape", [(400, 50), (3, 3, 40, 60)])
def test_classes_save_bits_where_units_differ(shape):
    alive = random.random(shape) < 0.2 * np.linspace(0, 1, shape[-1]) ** 4
    p = alive.mean()
    entropy = -alive.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert 0.5 * entropy < code_bits(alive.astype(np.int8)) < entropy
