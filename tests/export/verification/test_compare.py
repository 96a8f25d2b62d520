"""Zero differing elements, over every tensor of random graphs, on every runtime."""

from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.verification.compare import Difference, compare, simulator_mode
from tfqreg.export.verification.runtimes import MICRO, RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None and name != MICRO]
ON_MICRO = pytest.mark.skipif(missing(MICRO) is not None, reason="tflite-micro is not installed")


def assert_exact(graph, x, runtimes=INSTALLED) -> None:
    report = compare(graph, write_tflite(graph), x, runtimes)
    elements = sum(int(np.prod(graph.tensors[op.outputs[0]].shape)) for op in graph.ops)
    samples = len(next(iter(x.values())))
    wrong = {
        (runtime, name): tensor
        for runtime, part in report.runtimes.items()
        for name, tensor in part.tensors.items()
        if tensor.mismatched_elements
    }
    assert wrong == {}
    assert [part.compared_elements for part in report.runtimes.values()] == [
        elements * samples
    ] * len(runtimes)
    assert report.exact


@pytest.mark.parametrize("seed", range(3))
def test_every_operator(seed):
    graph = graphs.every_operator(seed)
    assert_exact(graph, graphs.codes(graph, 5, seed))


@pytest.mark.parametrize("seed", range(4))
def test_nets(seed):
    graph = graphs.residual_net(seed)
    assert_exact(graph, graphs.codes(graph, 40, seed))


@ON_MICRO
@pytest.mark.parametrize("seed", range(2))
def test_nets_on_microcontrollers(seed):
    graph = graphs.residual_net(seed)
    assert_exact(graph, graphs.codes(graph, 20, seed), [MICRO])


@ON_MICRO
def test_microcontrollers_get_one_operator_wrong():
    """RELU6 between two grids computes on the input's alone, as targets/tflite-micro.toml says."""
    graph = graphs.every_operator(0)
    report = compare(graph, write_tflite(graph), graphs.codes(graph, 5), [MICRO])
    wrong = {
        name
        for name, tensor in report.runtimes[MICRO].tensors.items()
        if tensor.mismatched_elements
    }
    assert {op.kind for op in graph.ops if op.outputs[0] in wrong} == {"RELU6"}


@ON_MICRO
def test_an_arena_that_has_to_grow():
    b = graphs.Builder(0)
    graph = b.finish(graphs.pool(b, b.input((700, 700, 8)), "MAX_POOL_2D"))
    assert_exact(graph, graphs.codes(graph, 1), [MICRO])


@ON_MICRO
def test_a_runtime_that_refuses_the_model_is_named_with_its_reason():
    graph = graphs.residual_net(0)
    model: Any = schema.ModelT.InitFromPackedBuf(write_tflite(graph))
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.SOFTMAX:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TILE
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    report = compare(graph, bytes(builder.Output()), graphs.codes(graph, 2), [MICRO])
    assert report.refused == {MICRO: "tflite-micro failed on the model: it has no operator TILE"}
    assert not report.exact
    assert (
        str(report)
        == "tflite-micro: refused the model, tflite-micro failed on the model: it has no operator "
        "TILE"
    )


@pytest.mark.parametrize("seed", range(2))
def test_float_ends(seed):
    graph = graphs.float_io(seed)
    codes = np.random.default_rng(seed).integers(-300, 300, (50, 20))
    # Ties: half of a step away from a code.
    x = ((codes + 0.5) * np.float64(graph.tensors["codes1"].quantization.scale[0])).astype(
        np.float32
    )
    assert_exact(graph, {"input": x})


@pytest.mark.parametrize("zero_point", [-128, 0, 112])
def test_ties_everywhere(zero_point):
    """Power-of-two scales: a large fraction of all products lies half-way between two codes."""
    b = graphs.Builder(0)
    x = b.input((4, 4, 8), scale=0.25, zero_point=zero_point)
    y = b.input((4, 4, 8), scale=0.25, zero_point=9)
    graphs.add(b, x, y, scale=0.5)
    graphs.unary(b, x, "QUANTIZE", 2.0)
    graphs.unary(b, x, "RELU", 2.0)
    graphs.mean(b, x, scale=0.25)
    codes = b.rng.integers(-8, 8, (5, 128)).astype(np.int8)
    w = b.constant("w", codes, np.float32([0.125]))
    bias = b.constant("b", np.arange(5, dtype=np.int32), np.float32([0.25 * 0.125]))
    b.op(
        "FULLY_CONNECTED",
        [x, w, bias],
        b.activation("fc", (5,), 2.0, zero_point),
        activation="NONE",
    )
    graph = b.finish()
    assert_exact(graph, graphs.codes(graph, 100))


@pytest.mark.parametrize("scale", [6 / 10.5, 6 / 11.5, 12.0])
def test_relu6_ties(scale):
    b = graphs.Builder(0)
    for zero_point in (-128, 0, 5):
        x = b.input((4, 4, 3), scale=scale, zero_point=zero_point)
        for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
            graphs.pool(b, x, kind, activation="RELU6")
        graphs.add(b, x, x, "RELU6", scale)
    graph = b.finish()
    assert_exact(graph, graphs.codes(graph, 20))


def test_mean_of_near_ties():
    """Output scales that put every other sum within one float32 rounding of a half."""
    for seed in range(3):
        b = graphs.Builder(seed)
        x = b.input((7, 7, 64))
        graphs.mean(b, x, scale=float(np.float32(float(b.quantization(x).scale[0]) * 6 / 49)))
        graph = b.finish()
        assert_exact(graph, graphs.codes(graph, 20, seed))


def test_large_accumulators():
    """Beyond 2**24, where float32 no longer holds every integer."""
    b = graphs.Builder(0)
    x = b.input((1, 1, 3000), zero_point=-128)
    w = b.constant("w", b.rng.integers(60, 128, (4, 3000)).astype(np.int8), np.float32([0.01]))
    bias = b.constant(
        "b", np.full(4, 2**25 + 1, np.int32), b.quantization(x).scale * np.float32(0.01)
    )
    scale = float(b.quantization(x).scale[0]) * 0.01 * 2**20
    b.op("FULLY_CONNECTED", [x, w, bias], b.activation("fc", (4,), scale, -128), activation="NONE")
    graph = b.finish()
    assert_exact(graph, graphs.codes(graph, 50))


def test_another_models_weights_are_noticed():
    graph = graphs.residual_net(0)
    weights = next(t.data for t in graph.tensors.values() if t.data is not None)
    tflite = write_tflite(graph)
    weights += np.int8(1)
    report = compare(graph, tflite, graphs.codes(graph, 5), ["litert"])
    part = report.runtimes["litert"]
    assert not report.exact
    assert part.mismatched_elements == sum(t.mismatched_elements for t in part.tensors.values()) > 0
    assert part.max_difference == max(t.max_difference for t in part.tensors.values()) >= 1
    assert str(report).startswith(
        f"litert: {part.mismatched_elements} of {part.compared_elements} elements differ"
    )
    assert "(simulator f32, 5 samples)" in str(report)


def test_difference_counts_nan_and_keeps_the_largest():
    difference = Difference()
    difference.add(np.int8([1, -128, 3]), np.int8([1, 127, 4]))
    assert difference == Difference(3, 2, 255.0)
    difference.add(np.float32([np.nan]), np.float32([1]))
    assert difference.mismatched_elements == 3


def test_modes():
    assert {name: simulator_mode(name) for name in RUNTIMES} == {
        "litert": "f32",
        "tensorflow": "f32-tf",
        "tflite-runtime-ref": "ref",
        "tflite-micro": "ref-micro",
        "litert-ref": "ref-new",
        "tensorflow-ref": "ref-new",
    }


def test_errors():
    graph = graphs.residual_net(0)
    x = graphs.codes(graph, 2)
    with pytest.raises(
        ValueError, match=r"x0: samples must be int8 .* Received: int8 of shape \(2, 5, 10, 3\)"
    ):
        compare(graph, write_tflite(graph), {"x0": x["x0"][:, :5]})
    with pytest.raises(ValueError, match="Received: runtime='tvm'"):
        compare(graph, write_tflite(graph), x, ["tvm"])


def test_a_model_of_another_graph():
    x = [np.zeros((1, 20), np.float32)]
    with pytest.raises(ValueError, match=r"fc5: .* int8 \(1, 7\). Received: int8 \(1, 6\)"):
        compare(graphs.float_io(0, units=7), write_tflite(graphs.float_io(0)), x, ["litert"])
    graph, other = graphs.float_io(0), graphs.float_io(0)
    other.ops = other.ops[:1]
    other.outputs = list(other.ops[0].outputs)
    with pytest.raises(ValueError, match="Received: no such tensor"):
        compare(graph, write_tflite(other), x, ["litert"])


@pytest.mark.parametrize("ratio", [1 / 200, 1 / 256])
def test_moving_to_a_much_coarser_grid(ratio):
    b = graphs.Builder(0)
    x = b.input((40,), scale=0.01)
    graph = b.finish(graphs.unary(b, x, "QUANTIZE", 1 / ratio))
    assert_exact(graph, graphs.codes(graph, 30))


def test_a_graph_whose_first_tensor_is_an_output():
    b = graphs.Builder(0)
    low = b.activation("y", (4,), 0.1, 0)
    graph = b.finish(b.op("RELU", [b.input((4,), scale=0.1, zero_point=0)], low))
    assert next(iter(graph.tensors)) == low
    assert_exact(graph, graphs.codes(graph, 3))
