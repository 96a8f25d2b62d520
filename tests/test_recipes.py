"""The whole recipe on a tiny net: it shrinks, it meets its target, it is exported and equals its
simulator.
"""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tfqreg.export import container_size, export_tflite, verify

random = np.random.default_rng(0)
IMAGES = random.random((128, 10, 10, 1)).astype(np.float32)


def float_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10, 10, 1), name="image"),
            layers.Conv2D(12, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(40, activation="relu", name="body"),
            layers.Dense(4, name="head"),
        ]
    )


@pytest.mark.long
def test_smallest_meets_its_target_and_is_exported(tmp_path):
    model = float_net()
    small = tq.recipes.smallest(
        model,
        IMAGES,
        keep=0.4,
        sparsity=0.8,
        target_bytes=1100,
        size=container_size,
        epochs=(2, 2),
        batch_size=16,
        augment=lambda images: images[:, :, ::-1],
        verbose=0,
    )
    assert container_size(small) <= 1100
    assert small.get_layer("body").layer.units < 40
    export_tflite(small, tmp_path / "m.tflite", scale_dtype="bfloat16")
    report = verify(small, tmp_path / "m.tflite", IMAGES[:8], runtimes=["litert"])
    assert report.runtimes["litert"].mismatched_elements == 0
    correlation = np.corrcoef(
        small.predict(IMAGES, verbose=0).ravel(), model.predict(IMAGES, verbose=0).ravel()
    )
    assert correlation[0, 1] > 0.5


@pytest.mark.long
def test_batch_norm_is_measured_on_the_weights_that_ship():
    inputs = keras.Input((10, 10, 1), name="image")
    x = layers.ReLU()(
        layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="conv")(inputs))
    )
    model = keras.Model(inputs, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))
    small = tq.recipes.smallest(
        model, IMAGES, keep=1.0, sparsity=0.3, epochs=(1, 1), batch_size=16, verbose=0
    )
    found = [np.asarray(weight) for weight in small.get_layer("norm").weights]
    tq.reestimate_norms(small, IMAGES, 16, verbose=0)
    for weight, again in zip(found, small.get_layer("norm").weights, strict=True):
        np.testing.assert_allclose(weight, again, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[2], 0.0)


def test_a_target_needs_a_size():
    with pytest.raises(ValueError, match="Received: target_bytes=900, size=None"):
        tq.recipes.smallest(float_net(), IMAGES, target_bytes=900)
