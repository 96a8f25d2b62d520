"""The portable form: every interpreter computes the same numbers, over every tensor."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.export import graphs
from tests.export import keras_nets as nets
from tests.export.layer_cases import TRANSPOSED, joined
from tfqreg.errors import ModelError
from tfqreg.export import export_tflite, simulate, verify, write_tflite
from tfqreg.export.cli import main
from tfqreg.export.export import exported_graph
from tfqreg.export.forms.portable import portable, portable_weights
from tfqreg.export.ir import Graph, Quantization
from tfqreg.export.kernels.call import MODES
from tfqreg.export.lowering.lower import lower
from tfqreg.export.verification import arm
from tfqreg.export.verification.compare import compare
from tfqreg.export.verification.runtimes import NOT_SIMULATED, RUNTIMES, missing
from tfqreg.export.verification.samples import graph_inputs

# Those under qemu take seconds to start; tests/export/verification/test_arm.py has them on one net.
INSTALLED = [
    name for name in (*RUNTIMES, *NOT_SIMULATED) if not arm.is_arm(name) and missing(name) is None
]


def assert_portable(graph: Graph, x: dict[str, np.ndarray]) -> None:
    """All simulators compute the same, and every runtime what they do."""
    expected = simulate(graph, x, "f32")
    for mode in MODES:
        found = simulate(graph, x, mode)
        assert {
            name: int((found[name] != y).sum())
            for name, y in expected.items()
            if (found[name] != y).any()
        } == {}
    report = compare(graph, write_tflite(graph), x, INSTALLED)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)
    assert {part.compared_elements for part in report.runtimes.values()} == {
        sum(y.size for y in expected.values())
    }


def without_softmax(model: keras.Model) -> keras.Model:
    """The model with raw scores."""
    last = model.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax:
        last.activation = keras.activations.linear
        return keras.models.clone_model(model)
    return model


def real(graph: Graph, name: str, codes: np.ndarray) -> np.ndarray:
    grid = graph.tensors[name].quantization
    assert grid is not None
    return (codes.astype(np.float64) - grid.zero_point) * grid.scale[0]


NETS = [
    (nets.mobile, 8, tq.Uniform(8), False),
    (nets.mobile, 4, tq.Uniform(3), True),
    (nets.dense_blocks, 8, tq.Uniform(8, per_channel=True), True),
]


@pytest.mark.parametrize(("make", "activations", "weights", "extremes"), NETS)
def test_nets(make, activations, weights, extremes, tmp_path):
    model = nets.roughen(without_softmax(make()), extremes=extremes)
    model = nets.calibrated(model, [tq.Rule("", weights=weights)], activations)
    graph = export_tflite(model, tmp_path / "m.tflite", portable=True)
    x = nets.samples(model, 8, 1)
    assert_portable(graph, dict(graph_inputs(graph, x)))
    for tensor in graph.tensors.values():
        if tensor.quantization is not None:
            assert (np.frexp(tensor.quantization.scale)[0] == 0.5).all()
    report = verify(model, tmp_path / "m.tflite", x, ["litert", "tflite-runtime"])
    assert report.exact and len(report.runtimes) == 2

    # The codes are others, the network is the same: 6 bits instead of 8, a step of up to twice its
    # size.
    plain = lower(model)
    codes, found = (simulate(g, graph_inputs(g, x), keep=set(g.outputs)) for g in (plain, graph))
    for name in plain.outputs:
        expected = real(plain, name, codes[name])
        error = real(graph, name, found[name]) - expected
        assert np.sqrt(np.mean(error**2)) < (0.15 if activations == 8 else 0.4) * expected.std()


@pytest.mark.parametrize("seed", [13, 27])  # those without a softmax, with additions
def test_random_nets(seed):
    graph = portable(lower(nets.random_net(seed)))
    assert_portable(graph, graphs.codes(graph, 6, seed))


def swishes(seed: int) -> keras.Model:
    x = y = keras.Input((8, 8, 3))
    for _ in range(3):
        y = keras.layers.Activation("hard_silu")(keras.layers.Conv2D(6, 3, padding="same")(y))
    y = keras.layers.Concatenate()([y, keras.layers.Activation("hard_silu")(y)])
    model = keras.Model(x, y)
    return nets.calibrated(nets.roughen(model, seed), seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_hard_swish(seed):
    graph = portable(lower(swishes(seed)))
    assert [op.kind for op in graph.ops].count("HARD_SWISH") == 4
    assert_portable(graph, graphs.codes(graph, 6, seed))


def test_hard_swish_on_a_grid_that_another_operator_fixed():
    b = graphs.Builder(0)
    x = b.input((4, 4, 8), 2.0**-4, 1)
    y = b.op("HARD_SWISH", [x], b.activation("y", (4, 4, 8), 2.0**-4, -128))
    # int8's lowest code has to stay at zero.
    graph = b.finish(graphs.concatenation(b, y, b.input((4, 4, 8), 2.0**-4, -128)))
    try:
        found = portable(graph)
    except ModelError as error:
        assert str(error).startswith("y1: HARD_SWISH has no portable form on this grid")
    else:
        assert_portable(found, graphs.codes(found, 6))


def test_transposed_convolutions():
    model = nets.calibrated(joined(TRANSPOSED))
    graph = portable(lower(model))
    assert_portable(graph, dict(graph_inputs(graph, nets.samples(model, 3, 1))))


def test_additions_of_coarse_and_fine_inputs():
    """Signed inputs of every ratio to the sum, where kernels round ties up or away from zero."""
    b = graphs.Builder(0)
    for low, high in ((0.01, 0.3), (0.3, 0.01), (1.0, 1e-4), (0.02, 0.02)):
        x, y = (graphs.conv(b, b.input((4, 4, 3)), 6) for _ in range(2))
        for name, scale in ((x, low), (y, high)):
            b.graph.tensors[name].quantization.scale[:] = scale
        graphs.add(b, x, y)
        graphs.add(b, x, x, "RELU", low * 1.9)
        graphs.unary(b, y, "QUANTIZE")
        graphs.unary(b, y, "RELU")
    graph = portable(b.finish())
    assert_portable(graph, graphs.codes(graph, 60))


def test_what_clips_at_zero_still_does():
    """ReLUs that only int8's lowest code carries out: a grid that reaches lower needs them."""
    b = graphs.Builder(0)
    x = b.input((6, 6, 4), 0.03, 0)
    conv = graphs.conv(b, x, 5)
    output = b.activation("out", (6, 6, 5), 0.9 * float(b.quantization(conv).scale[0]), -128)
    b.graph.ops[-1] = replace(b.graph.ops[-1], outputs=(output,))
    del b.graph.tensors[conv]
    pooled = graphs.mean(b, x)
    b.graph.tensors[pooled] = replace(
        b.graph.tensors[pooled], quantization=Quantization(np.float32(0.01), -128)
    )
    moved = b.op("QUANTIZE", [x], b.activation("moved", (6, 6, 4), 0.02, -128))
    graph = portable(b.finish(output, pooled, moved))
    x = graphs.codes(graph, 20)
    assert_portable(graph, x)
    codes = simulate(graph, x)
    assert all(real(graph, name, codes[name]).min() == 0 for name in graph.outputs)


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nets.calibrated(nets.two_ends())
    model.save("m.keras")
    np.savez("x.npz", **dict(zip(("left", "right"), nets.samples(model, 3), strict=True)))
    forms = {"": {}, "--storage=int4": {"storage": "int4"}, "--portable": {"portable": True}}
    for flag, options in forms.items():
        assert main(["export", "m.keras", "-o", "m.tflite", *flag.split()]) == 0
        assert Path("m.tflite").read_bytes() == write_tflite(exported_graph(model, **options))
    assert main(["verify", "m.keras", "m.tflite", "--samples", "x.npz"]) == 0


def test_weights_off_the_ties():
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (5, 3, 3, 4)).astype(np.int8)
    scale, bias = 10.0 ** rng.uniform(-9, 3, 5), rng.normal(0, 100, 5)
    data, scales, integers = portable_weights(codes, scale, 0, bias, 2.0**-6, 2.0**-4)
    assert not (data % 4).any() and np.abs(data.astype(int)).max() <= 124
    shift = np.log2(2.0**-4 / (2.0**-6 * scales))
    assert shift.max() == 16 and (shift == np.rint(shift)).all()
    np.testing.assert_array_equal(integers % 4, np.where(shift >= 3, 2, 0))
    inside = np.abs(bias) / (2.0**-6 * scales) < 2**30
    assert (
        np.abs(integers * 2.0**-6 * scales - bias)[inside].max()
        <= 2 * (2.0**-6 * scales)[inside].max()
    )
    fine = shift < 16
    error = np.abs(data * scales.reshape(-1, 1, 1, 1) - codes * scale.reshape(-1, 1, 1, 1)).max(
        (1, 2, 3)
    )
    assert (error[fine] <= 2 * scales[fine] * 1.0001).all()


def test_six_bits_at_powers_of_two_stay_exact():
    codes = np.random.default_rng(0).integers(-31, 32, (4, 9)).astype(np.int8)
    data, scales, _ = portable_weights(codes, np.array([0.125]), 0, np.zeros(4), 0.5, 4.0)
    np.testing.assert_array_equal(data * scales.reshape(-1, 1), codes * 0.125)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"fc2_softmax: SOFTMAX has no portable form: interpreters differ in it\. Leave it out",
        ),
        (
            {"float_io": True},
            r"Portable inputs are int8 or uint8: .*\. Give `input_type=.int8.`",
        ),
        ({"storage": "int4"}, r"Portable weights take 6 bits\. Leave out"),
    ],
)
def test_what_cannot_be_portable(options, message, tmp_path):
    model = nets.calibrated(nets.lenet())
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "m.tflite", tmp_path / "m.tqw", portable=True, **options)
    assert list(tmp_path.iterdir()) == []


def test_sums_that_overflow():
    b = graphs.Builder(0)
    x = b.input((4, 4, 3), scale=1.0)
    graphs.conv(b, x, 4)
    b.graph.tensors[b.graph.ops[-1].outputs[0]].quantization.scale[:] = 1e-6
    with pytest.raises(ValueError, match=r"CONV_2D has no portable form: its sums overflow"):
        portable(b.finish())


def test_relu6_on_a_coarse_grid():
    b = graphs.Builder(0)
    graphs.add(b, b.input((4,)), b.input((4,)), "RELU6", 2000.0)
    b.graph.ops[-1] = graphs.Op("RELU6", b.graph.ops[-1].inputs[:1], b.graph.ops[-1].outputs)
    graph = b.finish()
    coarse = b.activation("coarse", (4,), 900.0, 0)
    graph.ops.append(graphs.Op("QUANTIZE", graph.ops[-1].outputs, (coarse,)))
    with pytest.raises(
        ValueError, match=r"RELU6 has no portable form: 6 is no whole number of its steps"
    ):
        portable(graph)
