"""LiteRT's kernels for ARM, under qemu: a small set of what `make arm` compares."""

import numpy as np
import pytest

import tfqreg as tq
from benchmarks.helpers.operator_cases import CASES
from benchmarks.operators import figures
from tests.export import graphs
from tests.export import keras_nets as nets
from tests.export.kernels.test_agreement import gated
from tests.export.layer_cases import CASES as CASES_OF_LAYERS
from tests.export.layer_cases import TRANSPOSED, joined
from tests.export.moving_nets import moving_net
from tfqreg.export import export_tflite, integer_model, lower, simulate, verify, write_tflite
from tfqreg.export.verification import arm
from tfqreg.export.verification.compare import batch, compare
from tfqreg.export.verification.runtimes import NOT_SIMULATED, missing, run
from tfqreg.export.verification.samples import graph_inputs

RUNTIME = "litert-aarch64"
ON_ARM = pytest.mark.skipif(
    missing(RUNTIME) is not None, reason=f"its packages could not be had here: {missing(RUNTIME)}"
)


@ON_ARM
@pytest.mark.parametrize("core", arm.PROCESSORS)
def test_every_operator(core):
    seed = arm.PROCESSORS.index(core)
    graph = graphs.every_operator(seed)
    report = compare(
        graph, write_tflite(graph), graphs.codes(graph, 3, seed), [f"{RUNTIME}@{core}"]
    )
    assert report.exact, str(report)


@ON_ARM
@pytest.mark.parametrize("kind", ["MUL", "MEAN", "SOFTMAX", "HARD_SWISH"])
def test_where_the_processors_part(kind):
    graph, inputs = CASES[kind](24, 0)
    found = run(write_tflite(graph), inputs, RUNTIME, batch(graph, "arm64"))
    assert figures(found, simulate(graph, inputs, "arm64"))["differing"] == 0
    assert figures(found, simulate(graph, inputs, "f32"))["largest_step"] == 1


@ON_ARM
def test_a_model_for_phones(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 6, 6, 8)).astype(np.float32)
    q = tq.calibrate(tq.quantize(gated()), x, verbose=0)
    path = tmp_path / "m.tflite"
    graph = export_tflite(q, path, target="android-arm64")
    report = verify(q, path, x)
    assert RUNTIME in report.runtimes
    assert report.exact, str(report)
    codes = integer_model(q, dequantized=False, runtime="arm64").predict(x, verbose=0)
    found = run(path.read_bytes(), dict(graph_inputs(graph, x)), RUNTIME)
    assert np.array_equal(codes, found[graph.outputs[0]])


@ON_ARM
@pytest.mark.long
@pytest.mark.parametrize("cases", [CASES_OF_LAYERS, TRANSPOSED], ids=["open batch", "closed batch"])
def test_the_catalogue_of_layers(cases):
    graph = lower(nets.calibrated(joined(cases)))
    report = compare(graph, write_tflite(graph), graphs.codes(graph, 4), [RUNTIME])
    assert report.exact, str(report)


@ON_ARM
@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 108))
def test_random_nets_of_mixed_operators(seed):
    for model in (nets.random_net(seed), moving_net(seed)):
        graph = lower(model)
        report = compare(graph, write_tflite(graph), graphs.codes(graph, 8, seed), [RUNTIME])
        assert report.exact, str(report)


@ON_ARM
@pytest.mark.parametrize("runtime", [name for name in NOT_SIMULATED if arm.is_arm(name)])
def test_a_portable_model_is_the_same_everywhere(runtime, tmp_path):
    q = nets.calibrated(nets.mobile())
    path = tmp_path / "m.tflite"
    export_tflite(q, path, portable=True)
    report = verify(q, path, nets.samples(q, 10), [runtime])
    assert report.exact, str(report)


def test_without_the_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("TFQREG_ARM", str(tmp_path))
    assert missing(RUNTIME) == (
        f"{tmp_path} holds no litert-aarch64. "
        "Make it with python -m tfqreg.export.verification.arm_setup"
    )
    with pytest.raises(RuntimeError, match=r"litert-aarch64: .* Make it with python -m"):
        run(b"", {}, RUNTIME)


def test_names():
    for name in ("litert@cortex-a53", "litert-aarch32", "tensorflow-aarch64"):
        with pytest.raises(ValueError, match="A runtime is one of"):
            missing(name)
