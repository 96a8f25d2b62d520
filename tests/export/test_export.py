"""`export_tflite` and `verify` as a user meets them: the file, its bytes, and every way it can go
wrong.
"""

import contextlib
import resource
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import tfqreg as tq
from tests.export import keras_nets as nets
from tfqreg.export import export_tflite, kernel_exponents, unpack, verify
from tfqreg.export.lowering.lower import lower
from tfqreg.export.verification.samples import graph_inputs

CODES = ["litert"]


def net(classes: int = 5, name: str = "image") -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 2), name=name)
    y = layers.ReLU(name="relu")(
        layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(x))
    )
    y = layers.Add(name="sum")([y, layers.Conv2D(4, 3, padding="same", name="branch")(y)])
    y = layers.Dense(classes, activation="softmax", name="head")(layers.Flatten(name="flatten")(y))
    return nets.calibrated(
        nets.roughen(keras.Model(x, y, name="net")), [tq.Rule("", weights=tq.Uniform(4))]
    )


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return net()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.tflite"
    export_tflite(model, path)
    return path


@pytest.fixture(scope="module")
def two() -> keras.Model:
    """Two inputs, on grids of 0.5 and 0.25."""
    b, a = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    joined = layers.Concatenate(name="join")([nets.grid(0.5, -128)(b), nets.grid(0.25)(a)])
    return keras.Model([b, a], nets.grid(0.5, -128)(joined))


def subgraph(tflite: bytes):
    return schema.ModelT.InitFromPackedBuf(tflite).subgraphs[0]


def test_the_graph_comes_back(model, path):
    graph, tensors = export_tflite(model, path), subgraph(path.read_bytes()).tensors
    assert list(graph.tensors) == [tensor.name.decode() for tensor in tensors]


def test_the_same_model_gives_the_same_bytes(model, path, tmp_path):
    export_tflite(model, str(tmp_path / "again.tflite"))
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()
    model.save(tmp_path / "m.keras")
    export_tflite(keras.models.load_model(tmp_path / "m.keras"), tmp_path / "loaded.tflite")
    assert (tmp_path / "loaded.tflite").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("float_io", [False, True])
def test_all_is_integer_and_builtin(model, float_io, tmp_path):
    graph = export_tflite(model, tmp_path / "m.tflite", float_io=float_io)
    stored = schema.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    found = stored.subgraphs[0]
    floats = [
        t.name.decode()
        for t in found.tensors
        if t.type not in (schema.TensorType.INT8, schema.TensorType.INT32)
    ]
    assert floats == (graph.inputs + graph.outputs if float_io else [])
    assert [
        found.tensors[i].name.decode() for i in (*found.inputs, *found.outputs)
    ] == graph.inputs + graph.outputs
    custom = schema.BuiltinOperator.CUSTOM
    assert not any(code.customCode or code.builtinCode == custom for code in stored.operatorCodes)
    assert all(
        tensor.quantization.scale is not None
        for tensor in found.tensors
        if tensor.type == schema.TensorType.INT8
    )


def test_the_container_holds_the_same_bytes(model, tmp_path):
    export_tflite(model, tmp_path / "m.tflite", container=str(tmp_path / "m.tqw"))
    assert unpack((tmp_path / "m.tqw").read_bytes()) == (tmp_path / "m.tflite").read_bytes()


@pytest.mark.parametrize("float_io", [False, True])
def test_samples_come_by_position_or_by_name(two, float_io, tmp_path):
    export_tflite(two, tmp_path / "m.tflite", float_io=float_io)
    b, a = nets.samples(two, 7)
    for samples in ([b, a], (b, a), {"a": a, "b": b}):
        report = verify(two, tmp_path / "m.tflite", samples, CODES)
        assert report.exact
        assert report.samples == 7


def test_samples_round_half_to_even_and_clip(two):
    b = np.float32([[0.25, 0.75, -0.25], [1.25, 1000, -1000]])
    codes = graph_inputs(lower(two), [b, np.float32([[0.3, -1, 99], [0, 0.125, 0.375]])])
    assert codes["b"].tolist() == [[0, 2, 0], [2, 127, -128]]
    assert codes["a"].tolist() == [[-127, -128, 127], [-128, -128, -126]]
    assert {array.dtype for array in codes.values()} == {np.dtype(np.int8)}


def test_samples_are_rounded_as_the_model_rounds_them(model):
    graph, x = lower(model), nets.samples(model, 16)[0]
    q = graph.tensors["image"].quantization
    found = (graph_inputs(graph, x)["image"].astype(np.float32) - q.zero_point) * q.scale
    quantizer = next(layer for layer in model.layers if isinstance(layer, tq.QuantizedActivation))
    np.testing.assert_array_equal(found, quantizer(x))


def test_integer_samples_and_float_inputs(two):
    images = np.array([[0, 1, 200]], np.uint8)
    assert graph_inputs(lower(two), [images, images])["b"].tolist() == [[0, 2, 127]]
    kept = graph_inputs(lower(two, float_io=True), [images, images])
    assert kept["a"].tolist() == [[0.0, 1.0, 200.0]]
    assert kept["a"].dtype == np.float32


GOOD = np.zeros((2, 3), np.float32)
BAD_SAMPLES = {
    "too few": ([GOOD], r"one array for each input \['b', 'a'\]. Received: 1 arrays"),
    "one array": (GOOD[:1], "one array for each input .* Received: 1 arrays"),
    "shape": ([GOOD, GOOD[:, :2]], r"^a: samples must be .* \(batch, 3\). Received: float32 of "
                                   r"shape \(2, 2\)"),
    "no batch": ([GOOD[0], GOOD], r"^b: samples must be numbers of shape .* of shape \(3,\)"),
    "dtype": ([GOOD.astype(str), GOOD], "^b: samples must be numbers .* Received: <U"),
    "complex": ([GOOD, GOOD.astype(complex)], "^a: samples must be numbers .* Received: "
                                              "complex128"),
    "nan": ([GOOD, GOOD + np.float32([0, np.nan, 0])], "^a: samples hold NaN or infinity. "
                                                       ".* 2 of 2 samples: index 0, 1$"),
    "infinity": ([GOOD * np.float32([1, 1, 1]) - np.inf, GOOD], "^b: samples hold NaN or "
                                                                "infinity. .* index 0, 1$"),
    "one infinity": ([GOOD, np.float32([[0, 1, 2], [0, np.inf, 0]])], "1 of 2 samples: index 1$"),
    "name": ({"b": GOOD, "c": GOOD}, r"^c: the model has no such input. Its inputs: \['b', 'a'\]"),
    "missing": ({"b": GOOD}, r"Give the inputs \['b', 'a'\]. Received: \['b'\]"),
    "none": ([GOOD[:0], GOOD[:0]], "the same number of samples, at least one"),
    "uneven": ([GOOD, GOOD[:1]], "the same number of samples, at least one. Received: {'b': 2, "
                                 "'a': 1}"),
}  # fmt: skip


@pytest.mark.parametrize("float_io", [False, True])
@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_bad_samples_name_the_input(two, name, float_io, tmp_path):
    samples, message = BAD_SAMPLES[name]
    export_tflite(two, tmp_path / "m.tflite", float_io=float_io)
    with pytest.raises(ValueError, match=message):
        verify(two, tmp_path / "m.tflite", samples, CODES)


def test_another_models_file_is_refused(path):
    stranger = net(classes=6)
    with pytest.raises(
        ValueError, match=r"another model's|must be the one written from this graph"
    ):
        verify(stranger, path, nets.samples(stranger), CODES)


def test_other_names_are_no_other_model(path):
    same = net(name="picture")
    assert verify(same, path, nets.samples(same), CODES).runtimes


def test_another_models_outputs_are_refused(path):
    """The first part of a model agrees with the file in every tensor it has."""
    whole = net()
    part = keras.Model(whole.input, whole.get_layer("flatten").output)
    with pytest.raises(
        ValueError, match=r"m\.tflite: this file is another model's. .*\('head_softmax', 'int8'\)"
    ):
        verify(part, path, nets.samples(part), CODES)


def test_another_models_weights_differ(path):
    stranger = net()
    stranger.get_layer("conv").layer.bias.assign_add([0.5, 0, 0, 0])
    report = verify(stranger, path, nets.samples(stranger, 16), CODES)
    assert not report.exact
    assert report.runtimes["litert"].tensors["conv"].mismatched_elements


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "this is no .tflite file. Received: 0 bytes"),
        (b"PK\x03\x04" + bytes(50), "this is no .tflite file. Received: 54 bytes, starting b'PK"),
        (b"\x1c\0\0\0TFL3", "this .tflite file is damaged. Received: 8 bytes"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(90), "this .tflite file is damaged. Received: 98 bytes"),
    ],
)
def test_a_file_that_is_no_model(model, data, message, tmp_path):
    (tmp_path / "x.tflite").write_bytes(data)
    with pytest.raises(ValueError, match=f"x.tflite: {message}"):
        verify(model, tmp_path / "x.tflite", nets.samples(model), CODES)


def test_half_a_file_is_damaged(model, path, tmp_path):
    (tmp_path / "x.tflite").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"x\.tflite: this .tflite file is damaged. Received: 1000 bytes"
    ):
        verify(model, tmp_path / "x.tflite", nets.samples(model), CODES)


def test_a_missing_file(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        verify(model, tmp_path / "none.tflite", nets.samples(model))


def test_a_runtime_that_does_not_exist(model, path):
    with pytest.raises(
        ValueError, match=r"A runtime is one of litert, .* Received: runtime='fast'"
    ):
        verify(model, path, nets.samples(model), ["fast"])


def test_nothing_is_written_for_a_model_that_cannot_be_lowered(tmp_path):
    plain = tq.quantize(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    with pytest.raises(ValueError, match="the scale is not set"):
        export_tflite(plain, tmp_path / "m.tflite", tmp_path / "m.tqw")
    assert not list(tmp_path.iterdir())


@contextlib.contextmanager
def disk_of(size_bytes: int):
    """Lets no file grow further, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("old", [None, b"the old one"])
def test_a_full_disk_leaves_what_was_there(model, path, old, tmp_path):
    target = tmp_path / "m.tflite"
    if old is not None:
        target.write_bytes(old)
    with disk_of(path.stat().st_size // 2), pytest.raises(OSError, match="File too large"):
        export_tflite(model, target)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == (
        {} if old is None else {"m.tflite": old}
    )


def test_a_container_that_cannot_be_written(model, tmp_path):
    (tmp_path / "m.tqw").write_bytes(b"the old one")
    with pytest.raises(FileNotFoundError):
        export_tflite(model, tmp_path / "m.tflite", tmp_path / "none" / "m.tqw")
    assert (tmp_path / "m.tqw").read_bytes() == b"the old one"
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*"))


def test_a_target_that_cannot_be_written(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        export_tflite(model, tmp_path / "none" / "m.tflite")
    folder = tmp_path / "folder.tflite"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        export_tflite(model, folder)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.tflite"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("per_channel", [None, True])
def test_exponents_of_power_of_two_scales_survive_the_container(per_channel, model, path, tmp_path):
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 2)).astype(np.float32)
    snapped = tq.Uniform(4, per_channel=per_channel, power_of_two=True)
    q = tq.quantize(tq.strip(model), [tq.Rule("conv|head", snapped), tq.Rule(".*", tq.Uniform(8))])
    tq.calibrate(q, images, verbose=0)
    for layer in q.layers:
        if isinstance(layer, tq.Quantized):
            layer.quantizer.settle(layer.kernel_pairs()[0][0].state)
    export_tflite(q, tmp_path / "m.tflite", container=tmp_path / "m.tqw")
    exponents = kernel_exponents(unpack((tmp_path / "m.tqw").read_bytes()))
    assert list(exponents) == ["conv", "head"]
    for name, found in exponents.items():
        codes, params = q.get_layer(name).encode()["kernel"]
        assert len(found) == (params["scale"].size if per_channel else 1)
        np.testing.assert_array_equal(codes * 2.0 ** np.array(found), codes * params["scale"])
    assert verify(q, tmp_path / "m.tflite", images[:8], runtimes=CODES).exact
    assert kernel_exponents(path.read_bytes()) == {}
