"""`distill`: a quantized model learns a float model's outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tiny_nets import conv_net, dense_net, finite_difference, gradients

import tfqreg as tq
from tfqreg.distill import DistillationLoss

COARSE = [tq.Rule(".*", weights=tq.Uniform(3, per_channel=True))]


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 8, 8, 2)).astype(np.float32)


def loud_net() -> keras.Model:
    """`conv_net` with logits of some size."""
    model = conv_net()
    kernel = model.get_layer("head").kernel
    kernel.assign(20 * kernel)
    return model


def student(teacher: keras.Model) -> keras.Model:
    return tq.calibrate(tq.quantize(teacher, COARSE), images(), verbose=0)


def error(model: keras.Model, teacher: keras.Model) -> float:
    return float(np.square(model(images()) - teacher(images())).mean())


# The loss.


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_loss_is_the_divergence_of_the_softened_classes(temperature):
    rng = np.random.default_rng(0)
    t, s = (rng.normal(size=(5, 7)) * 3 for _ in range(2))
    p, q = softmax(t / temperature), softmax(s / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
    assert float(DistillationLoss(temperature)(t, s)) == pytest.approx(expected, rel=1e-5)
    assert float(DistillationLoss(temperature)(t, t)) == pytest.approx(0, abs=1e-6)


def test_loss_gradient():
    rng = np.random.default_rng(0)
    t, s = (tf.constant(rng.normal(size=(3, 4))) for _ in range(2))
    loss = DistillationLoss(2.0, dtype="float64")
    (found,) = gradients(lambda s: loss(t, s), s)
    np.testing.assert_allclose(found, finite_difference(lambda s: float(loss(t, s)), s), atol=1e-7)


def test_loss_is_finite_at_large_logits():
    logits = np.array([[300.0, -300.0]], np.float32)
    assert float(DistillationLoss()(logits, -logits)) == pytest.approx(600)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_loss_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=r"`temperature` must be positive. Received: temperature="):
        DistillationLoss(temperature)


def test_loss_round_trips():
    loss = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(DistillationLoss(3.0)))
    assert isinstance(loss, DistillationLoss) and loss.temperature == 3.0


# Training.


@pytest.mark.parametrize(
    ("photos", "steps"),
    [
        (images(), None),
        (tf.data.Dataset.from_tensor_slices((images(), np.zeros(64))).batch(16), None),
        ([images()[i : i + 16] for i in range(0, 64, 16)], None),
        ((images()[i % 64 : i % 64 + 16] for i in range(0, 10_000, 16)), 4),
    ],
    ids=["array", "dataset with labels", "batches", "generator"],
)
def test_student_comes_nearer(photos, steps):
    teacher = loud_net()
    model = student(teacher)
    before, weights = error(model, teacher), [np.asarray(w) for w in teacher.weights]
    history = tq.distill(
        model,
        teacher,
        photos,
        epochs=20,
        steps_per_epoch=steps,
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 80)),
        loss="mse",
        batch_size=16,
        verbose=0,
    )
    assert len(history.history["loss"]) == 20
    assert error(model, teacher) < 0.8 * before
    for old, new in zip(weights, teacher.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_default_loss_makes_the_classes_agree():
    teacher = loud_net()
    model = student(teacher)
    loss = DistillationLoss()
    before = float(loss(teacher(images()), model(images())))
    tq.distill(model, teacher, images(), epochs=8, optimizer=keras.optimizers.Adam(1e-3), batch_size=16, verbose=0)
    assert float(loss(teacher(images()), model(images()))) < 0.7 * before


@pytest.mark.parametrize("frozen", [True, False])
def test_norms(frozen):
    teacher = conv_net()
    model = student(teacher)
    norm = model.get_layer("stem_norm")
    before = [np.asarray(w) for w in norm.weights]
    tq.distill(model, teacher, 3 * images() + 1, freeze_norms=frozen, batch_size=16, verbose=0)
    gamma, beta, mean, variance = (np.array_equal(a, b) for a, b in zip(before, norm.weights, strict=True))
    assert (gamma, beta, mean, variance) == (False, False, frozen, frozen)
    # Ordinary training afterwards moves the statistics again.
    model.compile("sgd", "mse")
    model.fit(images(), np.zeros((64, 3)), verbose=0)
    assert not np.array_equal(before[2], norm.moving_mean)


def test_norms_are_as_before_after_a_failure():
    teacher = conv_net()
    model = student(teacher)
    with pytest.raises(ValueError):
        tq.distill(model, teacher, images()[:, :5, :5], verbose=0)
    norm = model.get_layer("stem_norm")
    mean = np.asarray(norm.moving_mean)
    norm(images()[..., :1] * np.ones(4, "float32"), training=True)
    assert not np.array_equal(mean, norm.moving_mean)


def test_several_outputs_and_a_dict_of_inputs():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.Concatenate(name="both")([a, b])
    teacher = keras.Model({"a": a, "b": b}, [layers.Dense(2, name="first")(x), layers.Dense(3, name="second")(x)])
    data = {name: np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32) for name in ("a", "b")}
    model = tq.calibrate(tq.quantize(teacher, COARSE), data, verbose=0)
    history = tq.distill(model, teacher, data, epochs=2, loss=["mse", DistillationLoss()], verbose=0)
    assert len(history.history["loss"]) == 2


def test_callbacks_and_progress(capsys):
    teacher, seen = conv_net(), []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    tq.distill(student(teacher), teacher, images(), epochs=2, callbacks=[callback], verbose=1)
    assert seen == [0, 1]
    assert "Epoch 2/2" in capsys.readouterr().out


def test_a_pruned_model_goes_through_its_stages():
    teacher = conv_net()
    rule = tq.Rule(".*", tq.Uniform(4), tq.MSQE(), tq.PartialL2(0.5))
    model = tq.calibrate(tq.quantize(teacher, [rule]), images(), verbose=0)
    tq.distill(model, teacher, images(), epochs=6, loss="mse", batch_size=16, verbose=0)
    codes = [layer.encode()["kernel"][0].ravel() for layer in model.layers if isinstance(layer, tq.Quantized)]
    assert (np.concatenate(codes) == 0).mean() >= 0.5


def test_what_is_refused():
    teacher = conv_net()
    with pytest.raises(ValueError, match="no wrapped layers"):
        tq.distill(teacher, teacher, images(), verbose=0)
    with pytest.raises(ValueError, match=r"the teacher's outputs must have the model's shape, .*3.* Received: .*1"):
        tq.distill(student(teacher), dense_net(), images(), verbose=0)
    with pytest.raises(ValueError, match=r"give `steps_per_epoch`. Received: photos=generator"):
        tq.distill(student(teacher), teacher, (x for x in images()), verbose=0)
