"""REDUCE_MAX, REDUCE_MIN, ARG_MAX and MEAN over any axes, and REVERSE_V2, on every runtime."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.ir import Graph, Tensor
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None]
AXES = [
    ((6, 5, 3), [1, 2]),
    ((6, 5, 3), [3]),
    ((6, 5, 3), [1, 3]),
    ((6, 5, 3), [1, 2, 3]),
    ((7, 6), [2]),
    ((2, 3, 4, 5), [2, 3]),
]


def reduction(kind: str) -> Graph:
    """The operator over several axes, kept and not, each from an input of its own."""
    b = graphs.Builder(5)
    for shape, axes in AXES:
        for keep in (False, True):
            x = b.input(shape)
            q = b.quantization(x)
            sizes = [1 if i in axes else n for i, n in enumerate((1, *shape))]
            kept = [n for i, n in enumerate(sizes) if keep or i not in axes]
            grid = () if kind == "MEAN" else (q.scale[0], q.zero_point)
            output = b.activation("y", tuple(kept[1:]), *grid)
            b.op(kind, [x, b.constant("axes", np.array(axes, np.int32))], output, keep_dims=keep)
    return b.finish(*(op.outputs[0] for op in b.graph.ops))


def along_one_axis(kind: str) -> Graph:
    b = graphs.Builder(6)
    for shape, axis in (((9,), 1), ((6, 5, 3), 3), ((6, 5, 3), 1), ((6, 5), 2)):
        x = b.input(shape)
        if kind == "ARG_MAX":
            rest = tuple(n for i, n in enumerate((1, *shape)) if i != axis)
            output = b.graph.add(Tensor(f"y{len(b.graph.tensors)}", rest, "int32"))
        else:
            output = graphs.same_scale(b, x, "y")
        b.op(kind, [x, b.constant("axis", np.array([axis], np.int32))], output)
    return b.finish(*(op.outputs[0] for op in b.graph.ops))


def assert_exact(graph: Graph, codes: dict[str, np.ndarray]) -> None:
    report = compare(graph, write_tflite(graph), codes, INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)


@pytest.mark.parametrize("kind", ["MEAN", "REDUCE_MAX", "REDUCE_MIN"])
def test_reductions_on_every_runtime(kind):
    graph = reduction(kind)
    assert_exact(graph, graphs.codes(graph, 16))


@pytest.mark.parametrize("kind", ["ARG_MAX", "REVERSE_V2"])
def test_one_axis_on_every_runtime(kind):
    graph = along_one_axis(kind)
    codes = graphs.codes(graph, 16)
    assert_exact(graph, {name: x // 32 for name, x in codes.items()})  # with many equal codes


def test_by_hand():
    graph = along_one_axis("ARG_MAX")
    codes = graphs.codes(graph, 1)
    codes[graph.inputs[0]] = np.int8([[3, 1, 7, 7, -5, 0, 0, 7, 2]])
    assert simulate(graph, codes)[graph.outputs[0]].tolist() == [2]
