"""Kernels of nothing but zeros: exported as they are, exact on the runtimes, with a warning."""

import warnings
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tfqreg.errors import ModelError
from tfqreg.export import check, container_size, export_tflite, integer_model, verify
from tfqreg.export.cli import main
from tfqreg.export.lowering.lower import ALL_ZEROS, lower, zero_kernels

ZEROS = {"kernel_initializer": "zeros"}
LAYERS = {
    "conv": lambda: layers.Conv2D(4, 3, padding="same", name="zero", **ZEROS),
    "bias": lambda: layers.Conv2D(
        4, 3, padding="same", bias_initializer="random_normal", name="zero", **ZEROS
    ),
    "depthwise": lambda: layers.DepthwiseConv2D(
        3, padding="same", depthwise_initializer="zeros", name="zero"
    ),
    "transpose": lambda: layers.Conv2DTranspose(4, 3, padding="same", name="zero", **ZEROS),
    "dense": lambda: layers.Dense(4, use_bias=False, name="zero", **ZEROS),
}
QUANTIZERS = [tq.Uniform(8, per_channel=True), tq.Uniform(2), tq.Uniform(4, power_of_two=True)]
X = np.random.default_rng(0).normal(size=(32, 6, 6, 4)).astype(np.float32)


def residual(layer: keras.layers.Layer) -> keras.Model:
    """A branch that starts as nothing, beside one that computes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4), name="image")
    x = layers.Conv2D(4, 1, name="stem")(inputs)
    x = layers.Add(name="sum")([x, layer(x)])
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))


@contextmanager
def zeros_allowed():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def quantized(layer: keras.layers.Layer, quantizer=None) -> keras.Model:
    rules = [tq.Rule(".*", quantizer or QUANTIZERS[0])]
    with zeros_allowed():
        return tq.calibrate(tq.quantize(residual(layer), rules), X, verbose=0)


CASES = [(name, QUANTIZERS[i % len(QUANTIZERS)]) for i, name in enumerate(LAYERS)]


@pytest.mark.parametrize("name, quantizer", CASES, ids=LAYERS)
def test_zeros_are_exact(name, quantizer, tmp_path):
    model = quantized(LAYERS[name](), quantizer)
    with zeros_allowed() as caught:
        graph = export_tflite(model, tmp_path / "m.tflite", tmp_path / "m.tqw")
        report = verify(model, tmp_path / "m.tflite", X)
        assert container_size(model, "float32") == (tmp_path / "m.tqw").stat().st_size
        integers = integer_model(model)
    assert str(caught[0].message) == f"zero/kernel: {ALL_ZEROS}"
    assert zero_kernels(graph) == ["zero/kernel"]
    assert report.exact
    assert np.isfinite(integers.predict(X, verbose=0)).all()
    np.testing.assert_allclose(
        model.predict(X, verbose=0), tq.strip(model).predict(X, verbose=0), atol=0.2
    )


@pytest.mark.parametrize("form", [{"portable": True}, {"storage": "int4"}])
def test_other_forms(form, tmp_path):
    model = quantized(LAYERS["bias"](), tq.Uniform(4))
    with zeros_allowed():
        export_tflite(model, tmp_path / "m.tflite", **form)
        assert verify(model, tmp_path / "m.tflite", X).exact


def test_check_warns():
    model = residual(LAYERS["conv"]())
    for one in (model, quantized(LAYERS["conv"]())):
        (found,) = check(one)
        assert (found.path, found.rule, found.severity) == ("zero/kernel", ALL_ZEROS, "warning")
        assert found.received == "shape=(4, 3, 3, 4)"


def test_quantize_and_export_warn():
    with pytest.warns(UserWarning, match="every weight is 0, the layer is exported as zeros"):
        model = tq.quantize(residual(LAYERS["conv"]()))
    with pytest.warns(UserWarning, match="every weight is 0"):
        tq.calibrate(model, X, verbose=0)
    with pytest.warns(UserWarning, match=f"zero/kernel: {ALL_ZEROS}"):
        lower(model)


def test_a_layer_that_pruning_emptied(tmp_path):
    layer = layers.Conv2D(4, 3, padding="same", name="zero")
    model = tq.quantize(residual(layer), [tq.Rule("zero", prune=tq.PartialL2(0.5)), tq.Rule(".*")])
    kernel, weights = model.get_layer("zero").kernel_pairs()[0]
    with pytest.warns(UserWarning, match="every weight is 0"):
        kernel.freeze(weights, np.zeros(weights.shape, bool))
    with zeros_allowed():
        tq.calibrate(model, X, verbose=0)
        export_tflite(model, tmp_path / "m.tflite")
        assert verify(model, tmp_path / "m.tflite", X).exact
    assert [found.path for found in check(model)] == ["zero/kernel"]


@pytest.mark.parametrize("quantizer", [tq.Uniform(1), tq.DoReFa()], ids=str)
def test_a_quantizer_without_a_zero_refuses(quantizer):
    with pytest.raises(ModelError, match=r"^zero/kernel: the kernel is all zeros, and .* no level"):
        tq.quantize(residual(LAYERS["conv"]()), [tq.Rule(".*", quantizer)])


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quantized(LAYERS["conv"]()).save("m.keras")
    with zeros_allowed():
        assert main(["export", "m.keras", "-o", "m.tflite"]) == 0
        capsys.readouterr()
        for command in ("inspect m.tflite", "check m.keras", "report m.keras -o r.html"):
            assert main(command.split()) == 0
    assert "zero/kernel" in capsys.readouterr().out
