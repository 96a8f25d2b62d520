"""CAST, ADD of integers and GATHER: a table of one code, on every runtime."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.ir import Graph, Tensor
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None]


def table(shape: tuple[int, ...], answers: np.ndarray) -> Graph:
    b = graphs.Builder(0)
    x = b.input(shape)
    code, place = (b.graph.add(Tensor(name, (1, *shape), "int32")) for name in ("code", "place"))
    b.op("CAST", [x], code)
    b.op("ADD", [code, b.constant("first", np.array([128], np.int32))], place)
    found = b.constant("answers", answers, np.float32([0.1]))
    b.op("GATHER", [found, place], b.activation("y", shape, 0.1, 0), axis=0)
    return b.finish()


def test_by_hand():
    graph = table((3,), np.arange(127, -129, -1).astype(np.int8))
    codes = np.int8([[-128, 0, 127]])
    found = simulate(graph, [codes])
    assert found["place"].tolist() == [[0, 128, 255]]
    assert found[graph.outputs[0]].tolist() == [[127, -1, -128]]


@pytest.mark.parametrize("shape", [(5,), (4, 5, 3), (2, 3, 4, 5)])
def test_every_runtime(shape):
    answers = np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8)
    graph = table(shape, answers)
    report = compare(graph, write_tflite(graph), graphs.codes(graph, 9), INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)
