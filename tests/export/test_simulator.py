"""The simulator's own numbers, by hand; equality with the runtimes is in test_verify.py."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.ir import Graph, Op, Quantization, Tensor
from tfqreg.export.simulator import simulate


def single(
    kind: str, x: Quantization, y: Quantization, size: int, shape=None, **attributes
) -> Graph:
    """An operator from `x` of shape (1, size, 1, 1), or `shape`, to `y`."""
    shape = shape or (1, size, 1, 1)
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", shape, quantization=x))
    graph.add(Tensor("y", shape, quantization=y))
    graph.ops.append(Op(kind, ("x",), ("y",), attributes))
    return graph


def grid(scale: float, zero_point: int = 0) -> Quantization:
    return Quantization(np.float32(scale), zero_point)


def run(graph: Graph, values: list[int], mode: str = "f32") -> list[int]:
    x = np.array(values, np.int8).reshape(1, *graph.tensors["x"].shape[1:])
    return simulate(graph, [x], mode)["y"].ravel().tolist()


@pytest.mark.parametrize(("mode", "expected"), [("f32", [2, 4, -2]), ("ref", [3, 4, -2])])
def test_convolution_rounds_as_the_mode_does(mode, expected):
    # A 1x1 kernel of code 1, scale 1/2: 5 -> 2.5, 7 -> 3.5, -5 -> -2.5. Half to even; or gemmlowp's
    # half up.
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", (1, 3, 1, 1), quantization=grid(1)))
    graph.add(
        Tensor("w", (1, 1, 1, 1), quantization=grid(0.5), data=np.ones((1, 1, 1, 1), np.int8))
    )
    graph.add(Tensor("b", (1,), "int32", grid(0.5), np.zeros(1, np.int32)))
    graph.add(Tensor("y", (1, 3, 1, 1), quantization=grid(1)))
    graph.ops.append(Op("CONV_2D", ("x", "w", "b"), ("y",), {"padding": "SAME", "stride": (1, 1)}))
    assert run(graph, [5, 7, -5], mode) == expected


def test_average_pool_rounds_half_away():
    pool = {"filter": (2, 1), "stride": (2, 1), "padding": "VALID"}
    graph = single("AVERAGE_POOL_2D", grid(1), grid(1), 4, **pool)
    graph.tensors["y"] = Tensor("y", (1, 2, 1, 1), quantization=grid(1))
    assert run(graph, [1, 2, -1, -2]) == [2, -2]


def test_pools_ignore_padding():
    for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        graph = single(kind, grid(1), grid(1), 2, filter=(3, 1), stride=(1, 1), padding="SAME")
        assert run(graph, [-100, -100]) == [-100, -100]


@pytest.mark.parametrize(("mode", "expected"), [("f32", 2), ("f32-tf", 3), ("ref", 3)])
def test_mean_ties(mode, expected):
    # (2 + 3) / 2 = 2.5 at zero point 0.
    graph = single("MEAN", grid(1), grid(1), 2, keep_dims=False)
    graph.add(Tensor("axes", (2,), "int32", None, np.array([1, 2], np.int32)))
    graph.tensors["y"] = Tensor("y", (1, 1), quantization=grid(1))
    graph.ops[0] = Op("MEAN", ("x", "axes"), ("y",), {"keep_dims": False})
    assert run(graph, [2, 3], mode) == [expected]


@pytest.mark.parametrize(("mode", "expected"), [("f32", [6, 3, 55]), ("ref", [6, 3, 56])])
def test_quantize_to_int8_has_a_coarser_factor_in_xnnpack(mode, expected):
    # 129 * 0.3925 = 50.63 -> 51; XNNPACK takes round(256 * 0.3925) = 100, and 129 * 100 / 256 =
    # 50.39 -> 50.
    assert run(single("QUANTIZE", grid(0.3925, -2), grid(1, 5), 3), [0, -6, 127], mode) == expected


def test_quantize_to_a_grid_so_coarse_that_all_is_zero():
    for mode in ("f32", "ref"):
        assert run(single("QUANTIZE", grid(1, -128), grid(600, 5), 2), [-128, 127], mode) == [5, 5]
    with pytest.raises(
        ValueError,
        match=r"QUANTIZE .*Requantize in two steps. Received: input scale / output scale",
    ):
        run(single("QUANTIZE", grid(1), grid(300), 2), [-128, 127])


def test_float_quantize_and_dequantize():
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", (1, 4), "float32"))
    graph.add(Tensor("q", (1, 4), quantization=grid(0.5, 3)))
    graph.add(Tensor("y", (1, 4), "float32"))
    graph.ops = [Op("QUANTIZE", ("x",), ("q",)), Op("DEQUANTIZE", ("q",), ("y",))]
    x = np.float32([[0.25, 0.75, -0.25, 1000]])
    even, away = simulate(graph, [x]), simulate(graph, [x], "ref")
    assert even["q"].tolist() == [[3, 5, 3, 127]]
    assert away["q"].tolist() == [[4, 5, 2, 127]]
    assert even["y"].tolist() == [[0.0, 1.0, 0.0, 62.0]]
    assert even["y"].dtype == np.float32


def test_softmax_of_equal_scores():
    graph = single("SOFTMAX", grid(0.1), grid(1 / 256, -128), 4, shape=(1, 4))
    for mode in ("f32", "ref"):
        assert run(graph, [9, 9, 9, 9], mode) == [-64] * 4


def test_accumulators_beyond_float32_stay_exact_and_wrap_in_int32():
    # (2**24 + 7) / 2**20 = 16.0000067; 2**31 + 5 wraps to -2**31 + 5.
    for bias, expected in ((2**24 + 1, 16), (2**31 - 1, -128)):
        graph = Graph(inputs=["x"], outputs=["y"])
        graph.add(Tensor("x", (1, 1), quantization=grid(2.0**-20)))
        graph.add(Tensor("w", (1, 1), quantization=grid(1), data=np.ones((1, 1), np.int8)))
        graph.add(Tensor("b", (1,), "int32", grid(2.0**-20), np.array([bias], np.int32)))
        graph.add(Tensor("y", (1, 1), quantization=grid(1)))
        graph.ops.append(Op("FULLY_CONNECTED", ("x", "w", "b"), ("y",)))
        assert run(graph, [6]) == [expected]


def test_keep_and_order():
    graph = graphs.residual_net(0)
    x = graphs.codes(graph, 3)
    everything = simulate(graph, x)
    assert list(everything) == [op.outputs[0] for op in graph.ops]
    kept = simulate(graph, x, keep=set(graph.outputs))
    assert list(kept) == graph.outputs
    assert (kept[graph.outputs[0]] == everything[graph.outputs[0]]).all()


def test_chunks_change_nothing():
    graph = graphs.residual_net(1)
    x = graphs.codes(graph, 600)
    together = simulate(graph, x, keep=set(graph.outputs))[graph.outputs[0]]
    apart = [simulate(graph, {k: v[i : i + 1] for k, v in x.items()}) for i in (0, 255, 256, 599)]
    assert (
        together[[0, 255, 256, 599]] == np.concatenate([a[graph.outputs[0]] for a in apart])
    ).all()


def test_inputs_by_name_or_in_order():
    b = graphs.Builder(0)
    x, y = b.input((2, 2, 3)), b.input((2, 2, 3))
    graph = b.finish(graphs.add(b, x, y))
    named = graphs.codes(graph, 4)
    listed = simulate(graph, [named[x], named[y]])
    assert (
        simulate(graph, {y: named[y], x: named[x]})[graph.outputs[0]] == listed[graph.outputs[0]]
    ).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "Give one array per input .* Received: 0 arrays"),
        ({"z": np.zeros((1, 2), np.int8)}, "Received: \\['z'\\]"),
        (
            [np.zeros((5, 3), np.int8)],
            r"x: .* int8 of shape \('batch', 2\). Received: int8 of shape \(5, 3\)",
        ),
        ([np.zeros((5, 2), np.float32)], r"Received: float32 of shape \(5, 2\)"),
        ([np.zeros(2, np.int8)], r"Received: int8 of shape \(2,\)"),
        ([np.zeros((0, 2), np.int8)], "at least one. Received: {'x': 0}"),
    ],
)
def test_input_errors(inputs, message):
    with pytest.raises(ValueError, match=message):
        simulate(single("RELU", grid(1), grid(1), 2, shape=(1, 2)), inputs)


def test_uneven_batches():
    b = graphs.Builder(0)
    x, y = b.input((2, 2, 3)), b.input((2, 2, 3))
    graph = b.finish(graphs.add(b, x, y))
    with pytest.raises(ValueError, match="the same number of samples"):
        simulate(graph, [np.zeros((2, 2, 2, 3), np.int8), np.zeros((3, 2, 2, 3), np.int8)])


def test_other_errors():
    x = [np.zeros((1, 2), np.int8)]
    graph = single("RELU", grid(1), grid(1), 2, shape=(1, 2))
    with pytest.raises(ValueError, match="Received: mode='f16'"):
        simulate(graph, x, "f16")
    with pytest.raises(ValueError, match="Received: keep=\\['lost'\\]"):
        simulate(graph, x, keep={"lost", "y"})
    with pytest.raises(ValueError, match="no operator 'SQRT' can be simulated"):
        simulate(single("SQRT", grid(1), grid(1), 2, shape=(1, 2)), x)
    graph.tensors["y"] = Tensor("y", (1, 2))
    with pytest.raises(ValueError, match=r"RELU .* tensor 'y' needs a quantization"):
        simulate(graph, x)


def test_add_refuses_what_xnnpack_cannot_scale():
    b = graphs.Builder(0)
    x = b.input((2,), scale=1.0)
    graph = b.finish(graphs.add(b, x, x, scale=1 / 256))
    with pytest.raises(ValueError, match=r"ADD .* Received: input scale / output scale = 256"):
        simulate(graph, graphs.codes(graph, 1))
    assert simulate(graph, graphs.codes(graph, 1), "ref")
