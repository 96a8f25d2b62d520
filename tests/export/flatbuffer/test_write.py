"""What lies in the file: layout, versions, sharing, and clear refusals."""

from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import graphs
from tfqreg.export.flatbuffer.write import debug_copy, write_tflite
from tfqreg.export.ir import Graph, Op, Quantization, Tensor


def parse(tflite: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(tflite)


def small_graph() -> Graph:
    b = graphs.Builder(0)
    x = graphs.conv(b, b.input((4, 4, 2)), 3)
    return b.finish(graphs.reshape(b, x, (48,)))


def test_header_and_empty_fields():
    tflite = write_tflite(small_graph())
    model = parse(tflite)
    assert tflite[4:8] == b"TFL3"
    assert model.version == 3
    assert model.description is None
    assert model.metadata is None
    assert model.signatureDefs is None
    assert model.subgraphs[0].name is None


def test_same_graph_same_bytes():
    assert write_tflite(graphs.residual_net(3)) == write_tflite(graphs.residual_net(3))


def test_batch_is_open_and_constants_are_closed():
    graph = small_graph()
    tensors = parse(write_tflite(graph)).subgraphs[0].tensors
    assert [t.name.decode() for t in tensors] == list(graph.tensors)
    for tensor, expected in zip(tensors, graph.tensors.values(), strict=True):
        assert tensor.shape.tolist() == list(expected.shape)
        if expected.data is None:
            assert tensor.shapeSignature.tolist() == [-1, *expected.shape[1:]]
            assert tensor.buffer == 0
        else:
            assert tensor.shapeSignature is None


def test_reshape_leaves_the_batch_open():
    operators = parse(write_tflite(small_graph())).subgraphs[0].operators
    assert list(operators[-1].builtinOptions.newShape) == [-1, 48]


def test_codes_go_in_verbatim():
    graph = small_graph()
    model = parse(write_tflite(graph))
    for tensor, expected in zip(model.subgraphs[0].tensors, graph.tensors.values(), strict=True):
        if expected.data is not None:
            assert model.buffers[tensor.buffer].data.tobytes() == expected.data.tobytes()


def test_quantization_parameters():
    graph = graphs.Builder(0)
    graphs.depthwise(graph, graph.input((4, 4, 2), scale=0.5, zero_point=-3))
    x, weights, bias, _ = parse(write_tflite(graph.finish())).subgraphs[0].tensors
    assert x.quantization.scale.tolist() == [0.5]
    assert x.quantization.zeroPoint.tolist() == [-3]
    assert weights.quantization.quantizedDimension == 3
    assert weights.quantization.zeroPoint.tolist() == [0, 0]
    assert (
        bias.quantization.scale.tolist() == (np.float32(0.5) * weights.quantization.scale).tolist()
    )


@pytest.mark.parametrize("copy", [lambda t: t, debug_copy], ids=["model", "debug copy"])
def test_constants_are_aligned(copy):
    tflite = copy(write_tflite(graphs.every_operator(0)))
    model = schema.Model.GetRootAs(tflite)
    start = np.frombuffer(tflite, np.uint8).__array_interface__["data"][0]
    offsets = [
        model.Buffers(i).DataAsNumpy().__array_interface__["data"][0] - start
        for i in range(1, model.BuffersLength())
    ]
    assert len(offsets) > 20
    assert [offset % 16 for offset in offsets] == [0] * len(offsets)


def test_equal_vectors_are_stored_once():
    def size(channels: int) -> int:
        b = graphs.Builder(0)
        x = graphs.conv(b, b.input((1, 1, 1)), channels, (1, 1))
        graphs.conv(b, x, channels, (1, 1))
        return len(write_tflite(b.finish()))

    # Per channel: its codes, two biases and four scales of 4 bytes, one int64 zero point for all
    # tensors.
    codes = (128 + 128 * 128) - (64 + 64 * 64)
    assert size(128) - size(64) <= codes + 64 * (6 * 4 + 8) + 4 * 16


def test_versions_are_the_lowest_for_int8():
    model = parse(write_tflite(graphs.every_operator(0)))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    versions = {names[code.builtinCode]: code.version for code in model.operatorCodes}
    assert versions == {
        "ADD": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
        "FULLY_CONNECTED": 4, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "PAD": 2, "QUANTIZE": 1,
        "RELU": 2, "RELU6": 2, "RESHAPE": 1, "SOFTMAX": 2,
    }  # fmt: skip
    assert all(code.deprecatedBuiltinCode == code.builtinCode for code in model.operatorCodes)


def test_debug_copy_reveals_every_output():
    graph = graphs.residual_net(0)
    tflite = write_tflite(graph)
    subgraph = parse(debug_copy(tflite)).subgraphs[0]
    names = [subgraph.tensors[i].name.decode() for i in subgraph.outputs]
    assert names == [op.outputs[0] for op in graph.ops]
    assert len(parse(tflite).subgraphs[0].outputs) == 1


def changed(graph: Graph, **changes) -> Graph:
    return Graph(
        graph.tensors, [replace(graph.ops[0], **changes)], graph.inputs, list(graph.ops[0].outputs)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "SQRT"}, "no operator 'SQRT' can be stored"),
        ({"inputs": ("x0", "lost", "b2")}, "add tensor 'lost'"),
        ({"inputs": ("x0", "w1")}, "refuse it without a bias"),
        ({"attributes": {"padding": "SAME"}}, "give it the attribute 'stride'"),
        ({"attributes": {"padding": "FULL", "stride": (1, 1)}}, "'FULL'"),
        (
            {"attributes": {"padding": "SAME", "stride": (4, 1)}},
            "use PAD and VALID. Received: size=4, window=3",
        ),
    ],
)
def test_operator_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        write_tflite(changed(small_graph(), **changes))


def test_point_windows_may_be_strided():
    b = graphs.Builder(0)
    graphs.conv(b, b.input((4, 4, 2)), 3, (1, 1), (2, 2))
    assert write_tflite(b.finish())


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor("c", (2,), "int8", None, np.zeros(3, np.int8)), r"Received: int8 \(3,\)"),
        (Tensor("c", (2,), "int8", None, np.zeros(2, np.int32)), r"Received: int32 \(2,\)"),
        (
            Tensor("c", (1, 2), "int4"),
            "dtype is one of int8, int32, uint8, float32, int4. Received: dtype='int4'",
        ),
        (
            Tensor("c", (1, 2), "int16"),
            "dtype is one of int8, int32, uint8, float32, int4. Received: dtype='int16'",
        ),
    ],
)
def test_tensor_errors(tensor, message):
    graph = Graph()
    graph.add(tensor)
    with pytest.raises(ValueError, match=message):
        write_tflite(graph)


def test_float_ends_carry_no_quantization():
    tensors = parse(write_tflite(graphs.float_io(0))).subgraphs[0].tensors
    assert tensors[0].type == schema.TensorType.FLOAT32
    assert tensors[0].quantization is None


def test_an_operator_without_options_stores_none():
    grid = Quantization(np.float32(1))
    graph = Graph()
    for name in "ab":
        graph.add(Tensor(name, (1, 2), quantization=grid))
    graph.ops.append(Op("RELU", ("a",), ("b",)))
    assert parse(write_tflite(graph)).subgraphs[0].operators[0].builtinOptionsType == 0
