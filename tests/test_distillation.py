"""`distill`: a quantized model learns a float model's outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net, dense_net, finite_difference, gradients
from tfqreg.distillation import DistillationLoss

COARSE = [tq.Rule(".*", weights=tq.Uniform(3, per_channel=True))]


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 8, 8, 2)).astype(np.float32)


def small_net() -> keras.Model:
    """Convolution, BatchNorm, ReLU, classifier, with logits of some size."""
    keras.utils.set_random_seed(0)
    steps = [
        layers.Conv2D(4, 3, use_bias=False, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(
            3, kernel_initializer=keras.initializers.RandomNormal(stddev=5.0), name="head"
        ),
    ]
    return keras.Sequential([keras.Input((8, 8, 2)), *steps], name="small_net")


def student(teacher: keras.Model) -> keras.Model:
    return tq.calibrate(tq.quantize(teacher, COARSE), images(), verbose=0)


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
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(DistillationLoss(3.0))
    )
    assert isinstance(loss, DistillationLoss) and loss.temperature == 3.0


# Training.


def features(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("photos", "steps"),
    [
        (features(), None),
        (tf.data.Dataset.from_tensor_slices((features(), np.zeros(64))).batch(16), None),
        ((features()[i % 64 : i % 64 + 16] for i in range(0, 10_000, 16)), 4),
    ],
    ids=["array", "dataset with labels", "generator"],
)
def test_forms_of_data(photos, steps):
    teacher = dense_net()
    model = tq.calibrate(tq.quantize(teacher, COARSE), features(), verbose=0)
    before, weights = [[np.asarray(w) for w in net.weights] for net in (model, teacher)]
    sizes = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: sizes.append(batch)
    )
    history = tq.distill(
        model, teacher, photos, 2, steps, loss="mse", batch_size=16, callbacks=[callback], verbose=0
    )
    assert len(history.history["loss"]) == 2 and sizes == 2 * [0, 1, 2, 3]
    assert not all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))
    for old, new in zip(weights, teacher.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_student_comes_nearer():
    teacher = conv_net()
    kernel = teacher.get_layer("head").kernel
    kernel.assign(20 * kernel)  # logits of some size
    model = student(teacher)
    loss = DistillationLoss()
    before = float(loss(teacher(images()), model(images())))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, 80))
    tq.distill(model, teacher, images(), epochs=20, optimizer=optimizer, batch_size=16, verbose=0)
    assert float(loss(teacher(images()), model(images()))) < 0.7 * before


@pytest.mark.parametrize("frozen", [True, False])
def test_norms(frozen):
    teacher = small_net()
    model = student(teacher)
    norm = model.get_layer("norm")
    before = [np.asarray(w) for w in norm.weights]
    tq.distill(model, teacher, 3 * images() + 1, freeze_norms=frozen, batch_size=16, verbose=0)
    gamma, beta, mean, variance = (
        np.array_equal(a, b) for a, b in zip(before, norm.weights, strict=True)
    )
    assert (gamma, beta, mean, variance) == (False, False, frozen, frozen)
    if frozen:  # ordinary training afterwards moves the statistics again
        model.fit(images(), np.zeros((64, 3)), verbose=0)
        assert not np.array_equal(before[2], norm.moving_mean)


def test_norms_are_as_before_after_a_failure():
    teacher = small_net()
    model = student(teacher)
    with pytest.raises(ValueError):
        tq.distill(model, teacher, images()[:, :5, :5], verbose=0)
    norm = model.get_layer("norm")
    mean = np.asarray(norm.moving_mean)
    norm(images()[..., :1] * np.ones(4, "float32"), training=True)
    assert not np.array_equal(mean, norm.moving_mean)


def test_several_outputs_and_a_dict_of_inputs():
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.Concatenate(name="both")([a, b])
    teacher = keras.Model(
        {"a": a, "b": b}, [layers.Dense(2, name="first")(x), layers.Dense(3, name="second")(x)]
    )
    data = {
        name: np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
        for name in ("a", "b")
    }
    model = tq.calibrate(tq.quantize(teacher, COARSE), data, verbose=0)
    history = tq.distill(
        model, teacher, data, epochs=2, loss=["mse", DistillationLoss()], verbose=0
    )
    assert len(history.history["loss"]) == 2


def test_progress_and_stages_of_pruning(capsys):
    teacher = dense_net()
    rule = tq.Rule(".*", tq.Uniform(4), tq.MSQE(), tq.PartialL2(0.5))
    model = tq.calibrate(tq.quantize(teacher, [rule]), features(), verbose=0)
    tq.distill(model, teacher, features(), epochs=6, loss="mse", batch_size=16, verbose=1)
    codes = [
        layer.encode()["kernel"][0].ravel()
        for layer in model.layers
        if isinstance(layer, tq.Quantized)
    ]
    assert (np.concatenate(codes) == 0).mean() >= 0.5
    assert "Epoch 6/6" in capsys.readouterr().out


def test_what_is_refused():
    teacher = small_net()
    with pytest.raises(ValueError, match="no wrapped layers"):
        tq.distill(teacher, teacher, images(), verbose=0)
    with pytest.raises(
        ValueError, match=r"the teacher's outputs must have the model's shape, .*3.* Received: .*1"
    ):
        tq.distill(student(teacher), dense_net(), images(), verbose=0)
    with pytest.raises(ValueError, match=r"give `steps_per_epoch`. Received: photos=generator"):
        tq.distill(student(teacher), teacher, (x for x in images()), verbose=0)
