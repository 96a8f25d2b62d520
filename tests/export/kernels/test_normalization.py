"""L2_NORMALIZATION: near the float, and on every runtime."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.ir import Graph
from tfqreg.export.kernels.normalization import inverse_sqrt
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None]


def normalization(*shapes: tuple[int, ...]) -> Graph:
    b = graphs.Builder(7)
    for shape in shapes:
        b.op("L2_NORMALIZATION", [b.input(shape)], b.activation("y", shape, 1 / 128, 0))
    return b.finish(*(op.outputs[0] for op in b.graph.ops))


def test_inverse_sqrt():
    total = np.unique(np.geomspace(1, 2**31 - 1, 5000).astype(np.int64))
    multiplier, shift = inverse_sqrt(total)
    assert (multiplier < 2**31).all()
    np.testing.assert_allclose(multiplier * 2.0 ** (shift - 31), total**-0.5, rtol=1e-5)


def test_near_the_float():
    graph = normalization((4, 9))
    x = graphs.codes(graph, 50)
    grid = graph.tensors[graph.inputs[0]].quantization
    assert grid is not None
    real = x[graph.inputs[0]].astype(np.float64) - grid.zero_point
    expected = 128 * real / np.linalg.norm(real, axis=-1, keepdims=True)
    found = simulate(graph, x)[graph.outputs[0]]
    assert np.abs(found - np.clip(expected, -128, 127)).max() <= 0.501


@pytest.mark.parametrize("divisor", [1, 64], ids=["all codes", "small codes"])
def test_every_runtime(divisor):
    graph = normalization((300,), (7, 3), (4, 5, 3), (30, 1), (1, 1, 2000))
    codes = {name: x // divisor for name, x in graphs.codes(graph, 12).items()}
    for name, x in codes.items():  # some vectors of nothing but zeros
        grid = graph.tensors[name].quantization
        assert grid is not None
        x[0] = grid.zero_point
    report = compare(graph, write_tflite(graph), codes, INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)
