"""The operators of one code each, over all codes and many scales, on every runtime."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.ir import Graph, Quantization, Tensor
from tfqreg.export.simulator import simulate
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import RUNTIMES, missing

INSTALLED = [name for name in RUNTIMES if missing(name) is None]
CODES = np.arange(-128, 128).astype(np.int8)[None]


def at_many_scales(
    kind: str, count: int, scales, ratios, grid=None, **attributes
) -> tuple[Graph, dict]:
    """One operator a pair of scales, each from an input of its own that holds every code."""
    b = graphs.Builder(3)
    for i in range(count):
        scale = float(np.exp(b.rng.uniform(*np.log(scales))))
        x = b.input((256,), scale)
        ratio, zero_point = (
            float(np.exp(b.rng.uniform(*np.log(ratios)))),
            int(b.rng.choice([-128, 0, 90, 127])),
        )
        y = b.activation("y", (256,), *(grid or (scale / ratio, zero_point)))
        options = {name: values[i % len(values)] for name, values in attributes.items()}
        b.op(kind, [x], y, **options)
    graph = b.finish(*(op.outputs[0] for op in b.graph.ops))
    return graph, {name: CODES for name in graph.inputs}


CASES = {
    "LOGISTIC": {"scales": (1e-4, 20), "ratios": (1, 2), "grid": (1 / 256, -128)},
    "TANH": {"scales": (1e-4, 20), "ratios": (1, 2), "grid": (1 / 128, 0)},
    "HARD_SWISH": {"scales": (1e-4, 3), "ratios": (0.02, 100)},
    "LEAKY_RELU": {
        "scales": (1e-3, 1),
        "ratios": (2e-3, 150),
        "alpha": (0.01, 0.3, -0.2, 1.5, 1e-4),
    },
}


@pytest.mark.parametrize("kind", CASES)
def test_every_code_on_every_runtime(kind):
    graph, codes = at_many_scales(kind, 40, **CASES[kind])
    report = compare(graph, write_tflite(graph), codes, INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)


def test_slopes_by_channel_on_every_runtime():
    b = graphs.Builder(5)
    for i in range(20):
        x = b.input((4, 4, 16), float(b.rng.uniform(0.01, 0.1)))
        slopes = b.rng.integers(-127, 128, [(16,), (4, 4, 16), (1, 1, 16), (1,)][i % 4]).astype(
            np.int8
        )
        alpha = b.constant("alpha", slopes, np.float32(b.rng.uniform(0.001, 0.01)))
        b.op("PRELU", [x, alpha], b.activation("y", (4, 4, 16), float(b.rng.uniform(0.01, 0.1))))
    graph = b.finish(*(op.outputs[0] for op in b.graph.ops))
    report = compare(
        graph,
        write_tflite(graph),
        {name: CODES.reshape(1, 4, 4, 16) for name in graph.inputs},
        INSTALLED,
    )
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)


CURVES = {
    "LOGISTIC": (lambda x: 1 / (1 + np.exp(-x)), (1 / 256, -128)),
    "TANH": (np.tanh, (1 / 128, 0)),
    "HARD_SWISH": (lambda x: x * np.clip(x + 3, 0, 6) / 6, (0.04, -118)),
    "LEAKY_RELU": (lambda x: np.where(x < 0, 0.3 * x, x), (0.04, -96)),
}


@pytest.mark.parametrize("mode", ["f32", "f32-tf", "ref", "ref-micro", "ref-new"])
@pytest.mark.parametrize("kind", CURVES)
def test_curves_are_right_to_one_step(kind, mode):
    function, (scale, zero_point) = CURVES[kind]
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", (1, 256), quantization=Quantization(np.float32(0.05), -20)))
    graph.add(Tensor("y", (1, 256), quantization=Quantization(np.float32(scale), zero_point)))
    graph.ops.append(graphs.Op(kind, ("x",), ("y",), {"alpha": 0.3}))
    expected = function((CODES + 20.0) * np.float32(0.05)) / np.float32(scale) + zero_point
    found = simulate(graph, [CODES], mode)["y"]
    assert np.abs(found - np.clip(expected, -128, 127)).max() <= 1.01
    assert len(np.unique(found)) > 50


def test_saturation_far_from_zero():
    for mode, kind in (("ref-micro", "LOGISTIC"), ("f32", "LOGISTIC"), ("ref", "TANH")):
        graph, codes = at_many_scales(kind, 1, (1e6, 2e6), (1, 2), CASES[kind]["grid"])
        found = simulate(graph, codes, mode)[graph.outputs[0]]
        assert {int(found.min()), int(found.max())} == {-128, 127}
