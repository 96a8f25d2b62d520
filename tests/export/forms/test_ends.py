"""uint8 and float32 ends: exact on every runtime, each for itself; the signature beside them."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.export import graphs
from tfqreg.errors import ModelError
from tfqreg.export import export_tflite, integer_model, lower, pack, simulate, unpack, verify
from tfqreg.export.export import exported_graph
from tfqreg.export.flatbuffer.read import ends_of_file, parse
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.forms.ends import END_TYPES, with_ends
from tfqreg.export.verification.samples import graph_inputs

RUNTIMES = ["litert", "tensorflow", "tflite-runtime-ref", "tflite-micro", "litert-ref"]
X = np.random.default_rng(0).random((24, 6, 6, 3), np.float32)


def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="img")
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    scores = keras.layers.Dense(3, activation="softmax", name="cls")(x)
    return keras.Model(image, {"scores": scores, "box": keras.layers.Dense(2)(x)})


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tq.calibrate(tq.quantize(net()), X, verbose=0)


@pytest.mark.parametrize("output_type", END_TYPES)
@pytest.mark.parametrize("input_type", END_TYPES)
def test_every_pair_is_exact_on_every_runtime(model, input_type, output_type, tmp_path):
    path = tmp_path / "m.tflite"
    export_tflite(model, path, input_type=input_type, output_type=output_type)
    ends = ends_of_file(path.read_bytes())
    assert [[dtype for _, dtype in end] for end in ends] == [[input_type], [output_type] * 2]
    report = verify(model, path, X[:5], RUNTIMES)
    assert report.exact, report
    assert len(report.runtimes) + len(report.skipped) == len(RUNTIMES)


def test_codes_of_uint8_are_those_of_int8_plus_128(model):
    graph = lower(model)
    bytes_ = with_ends(graph, "uint8", "uint8")
    codes = np.arange(256, dtype=np.uint8)[np.random.default_rng(1).integers(0, 256, X.shape)]
    inside = simulate(graph, [(codes.astype(np.int16) - 128).astype(np.int8)])
    outside = simulate(bytes_, [codes])
    for name, outer in zip(graph.outputs, bytes_.outputs, strict=True):
        assert outside[outer].dtype == np.uint8
        assert np.array_equal(outside[outer].astype(np.int16) - 128, inside[name])
    grid, inner = (g.tensors[g.inputs[0]].quantization for g in (bytes_, graph))
    assert grid is not None and inner is not None
    assert grid.zero_point == inner.zero_point + 128


def test_float_io_is_short_for_both(model):
    both = exported_graph(model, input_type="float32", output_type="float32")
    assert write_tflite(exported_graph(model, float_io=True)) == write_tflite(both)
    one = exported_graph(model, float_io=True, output_type="int8")
    assert [one.tensors[name].dtype for name in one.inputs + one.outputs] == [
        "float32",
        "int8",
        "int8",
    ]


def test_portable_and_int4_files_take_ends_too(model, tmp_path):
    path = tmp_path / "m.tflite"
    export_tflite(model, path, storage="int4", input_type="uint8", output_type="float32")
    assert verify(model, path, X[:5]).exact
    # A softmax has no portable form; the logits have.
    export_tflite(
        model, path, portable=True, logits=True, input_type="uint8", output_type="float32"
    )
    assert verify(model, path, X[:5], RUNTIMES).exact


def test_the_keras_simulator_of_a_graph_with_uint8_ends(model):
    graph = exported_graph(model, input_type="uint8", output_type="uint8")
    expected = simulate(graph, graph_inputs(graph, X))
    found = integer_model(graph, dequantized=False).predict(X, verbose=0)
    for name, array in zip(graph.outputs, found, strict=True):
        assert array.dtype == np.uint8
        assert np.array_equal(array, expected[name])


@pytest.mark.parametrize("argument", ["input_type", "output_type"])
def test_other_types_are_refused(model, argument):
    with pytest.raises(ModelError, match=rf"`{argument}` is one of int8, uint8, float32\. Rec.*16"):
        exported_graph(model, **{argument: "int16"})


def test_the_signature_has_keras_names_on_litert(model, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "m.tflite"
    export_tflite(model, path, output_type="float32")
    interpreter = Interpreter(str(path))
    names = {"inputs": ["img"], "outputs": ["box", "scores"]}
    assert interpreter.get_signature_list() == {"serving_default": names}
    graph = exported_graph(model, output_type="float32")
    (codes,) = graph_inputs(graph, X[:1]).values()
    answers = interpreter.get_signature_runner()(img=codes)
    expected = simulate(graph, [codes])
    for name, output in zip(graph.output_names, graph.outputs, strict=True):
        assert np.array_equal(answers[name], expected[output])


def test_a_file_is_compared_by_position_where_keras_counts_on(model, tmp_path):
    path = tmp_path / "m.tflite"
    export_tflite(model, path, output_type="float32")
    again = tq.calibrate(tq.quantize(net()), X, verbose=0)
    assert list(lower(again).tensors) != list(lower(model).tensors)
    assert verify(again, path, {"img": X[:5]}, ["litert"]).exact


def test_a_signature_costs_few_bytes_and_none_without_names(model):
    graph = lower(model)
    with_, without = (
        write_tflite(g) for g in (graph, replace(graph, input_names=[], output_names=[]))
    )
    assert parse(without).signatureDefs is None
    assert unpack(pack(with_)) == with_
    assert len(with_) - len(without) <= 160
    assert len(pack(with_)) - len(pack(without)) <= 80


def test_a_graph_made_by_hand_has_no_signature():
    assert parse(write_tflite(graphs.residual_net(0))).signatureDefs is None
