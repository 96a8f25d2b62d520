"""ADD, SUB, MUL, MAXIMUM and MINIMUM: broadcast, with fused activations, on every runtime."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.ir import Graph
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None]
SHAPES = [
    ((3, 5, 7), (3, 5, 7)),
    ((3, 5, 7), (1, 1, 7)),
    ((1, 1, 7), (3, 5, 7)),
    ((3, 5, 7), (3, 5, 1)),
    ((9,), (9,)),
]
ACTIVATIONS = ("NONE", "RELU", "RELU6")


def pairs(kind: str, count: int) -> Graph:
    """One operator a pair of grids and shapes, each from two inputs of its own."""
    b = graphs.Builder(11)
    shared = kind in ("MAXIMUM", "MINIMUM")
    for i in range(count):
        shapes = SHAPES[i % len(SHAPES)]
        scales = np.exp(b.rng.uniform(-5, -1, 2))
        grids = (
            [(float(scales[0]), 17)] * 2 if shared else [(float(scale), None) for scale in scales]
        )
        operands = [b.input(shape, *grid) for shape, grid in zip(shapes, grids, strict=True)]
        size = 100 * scales.prod() if kind == "MUL" else np.hypot(*scales)
        target = grids[0] if shared else (float(size * np.exp(b.rng.uniform(-2, 2))), None)
        output = b.activation("out", np.broadcast_shapes(*shapes), *target)
        b.op(kind, operands, output, **({} if shared else {"activation": ACTIVATIONS[i % 3]}))
    return b.finish(*(op.outputs[0] for op in b.graph.ops))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"])
def test_pairs_on_every_runtime(kind):
    graph = pairs(kind, 30)
    report = compare(graph, write_tflite(graph), graphs.codes(graph, 3), INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)


def test_a_product_by_hand():
    b = graphs.Builder(0)
    x, y = b.input((3,), 0.5, 0), b.input((3,), 0.5, 10)
    b.op("MUL", [x, y], b.activation("out", (3,), 1.0, -3), activation="NONE")
    graph = b.finish()
    codes = {x: np.int8([[3, 5, -7]]), y: np.int8([[12, 12, 12]])}
    # Products 6, 10 and -14 at scale 1/4: 1.5, 2.5, -3.5, half to even by XNNPACK and half away by
    # gemmlowp.
    assert simulate(graph, codes, "f32")[graph.outputs[0]].tolist() == [[-1, -1, -7]]
    assert simulate(graph, codes, "ref")[graph.outputs[0]].tolist() == [[-1, 0, -7]]
