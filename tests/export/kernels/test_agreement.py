"""Output grids on which x86-64 and arm64 compute the same codes."""

from typing import Any

import keras
import numpy as np
import pytest

import tfqreg as tq
from benchmarks.helpers.operator_cases import CASES
from tfqreg.export import lower, simulate
from tfqreg.export.ir import Graph, Tensor
from tfqreg.export.kernels.agreement import agreeing_grid, parts


def tensors_of(graph: Graph, op: Any) -> tuple[tuple[Tensor, ...], Tensor]:
    return tuple(graph.tensors[name] for name in op.inputs), graph.tensors[op.outputs[0]]


@pytest.mark.parametrize("kind", ["MUL", "MEAN", "HARD_SWISH"])
def test_a_scale_nearby_brings_the_processors_together(kind):
    graph, inputs = CASES[kind](30, 4)
    parted = [op for op in graph.ops if parts(op, *tensors_of(graph, op))]
    assert parted
    for op in parted:
        sources, output = tensors_of(graph, op)
        grid = agreeing_grid(op, sources, output)
        assert output.quantization is not None
        # A quarter of a step at the end of the range; most move a thousand times less.
        assert abs(float(grid.scale[0] / output.quantization.scale[0]) - 1) < 2e-3
        graph.tensors[output.name] = Tensor(output.name, output.shape, quantization=grid)
    found = [simulate(graph, inputs, mode) for mode in ("f32", "arm64", "f32-tf")]
    for op in graph.ops:
        name = op.outputs[0]
        assert all((found[0][name] == other[name]).all() for other in found[1:])


def test_a_grid_on_which_they_agree_stays():
    graph, _ = CASES["MUL"](12, 0)
    for op in graph.ops:
        sources, output = tensors_of(graph, op)
        if not parts(op, sources, output):
            assert agreeing_grid(op, sources, output) is output.quantization


def gated() -> keras.Model:
    x = keras.Input((6, 6, 8))
    gate = keras.layers.Dense(8, "sigmoid", name="gate")(keras.layers.GlobalAveragePooling2D()(x))
    y = keras.layers.Multiply(name="gated")([x, keras.layers.Reshape((1, 1, 8))(gate)])
    y = keras.layers.Activation("hard_silu", name="swish")(y)
    return keras.Model(x, keras.layers.GlobalAveragePooling2D(name="mean")(y))


def test_a_lowered_model_computes_the_same_on_both():
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (64, 6, 6, 8)).astype(np.float32)
    for _ in range(4):
        q = tq.calibrate(tq.quantize(gated()), x * random.uniform(0.5, 4), verbose=0)
        # Powers of two are what ties live on.
        for layer in q.layers:
            if hasattr(layer, "base_scale"):
                exponent = np.round(np.log2(np.asarray(layer.base_scale)))
                layer.base_scale.assign(2.0**exponent)
        graph = lower(q)
        assert not [op.kind for op in graph.ops if parts(op, *tensors_of(graph, op))]
