"""Models with WRPN, DoReFa and learned bits on their way out: integer files, widths by kernel,
pictures.
"""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import conv_net, kernels
from tfqreg.export import export_tflite, unpack, verify
from tfqreg.export.report.html import write_report
from tfqreg.export.report.summary import summarize, summarize_model
from tfqreg.layers.queries import activation_layers

IMAGES = np.random.default_rng(0).random((24, 8, 8, 2), np.float32)
WIDTHS = (("stem", 1.0), ("depthwise", 6.6), ("pointwise", 2.4), ("head", 4.0))


def small(rules: list[tq.Rule], activations: int | tq.UnitRange = 8) -> keras.Model:
    """The network with its activation grids set, untrained."""
    q = tq.quantize(conv_net(), rules, activations)
    tq.calibrate(q, IMAGES)
    return q


def mixed() -> keras.Model:
    """A learned width for each kernel, as training might have left it."""
    q = small([tq.Rule(".*", tq.LearnedBits(), tq.SinAReQ())])
    for kernel, _ in kernels(q):
        layer = kernel.stage.path
        beta = next(beta for name, beta in WIDTHS if name in layer)
        kernel.state["beta_unit"].assign(
            np.full((1,) * len(kernel.state["beta_unit"].shape), beta / 10.0)
        )
        kernel.settle()
    return q


def checked(q: keras.Model, folder, storage: str = "int8") -> dict[str, str]:
    """Exports, compares with the simulator and the container; returns the dtype of each kernel."""
    graph = export_tflite(q, folder / "m.tflite", container=folder / "m.tqw", storage=storage)
    report = verify(q, folder / "m.tflite", IMAGES)
    assert report.exact, str(report)
    assert unpack((folder / "m.tqw").read_bytes()) == (folder / "m.tflite").read_bytes()
    return {
        name.split("/")[0]: tensor.dtype
        for name, tensor in graph.tensors.items()
        if name.endswith("/kernel")
    }


@pytest.mark.parametrize(
    "quantizer",
    [*map(tq.WRPN, (2, 5, 8)), *map(tq.DoReFa, (1, 4, 7)), tq.DoReFa(3, normalize=False)],
    ids=repr,
)
def test_a_quantizer_runs_as_integers_exactly(quantizer, tmp_path):
    assert set(checked(small([tq.Rule(".*", quantizer, tq.SinReQ())]), tmp_path).values()) == {
        "int8"
    }


def test_mixed_learned_widths_run_exactly_and_are_shown_by_kernel(tmp_path):
    q = mixed()
    assert set(checked(q, tmp_path).values()) == {"int8"}
    expected = {name: 1 + math.ceil(beta) for name, beta in WIDTHS}
    for rows in (summarize_model(q).rows, summarize((tmp_path / "m.tflite").read_bytes()).rows):
        assert {row.name.split("/")[0]: row.bits for row in rows} == expected
    inspected = subprocess.run(
        [sys.executable, "-m", "tfqreg.export.cli", "inspect", str(tmp_path / "m.tqw")],
        capture_output=True,
        text=True,
    ).stdout
    lines = {
        line.split("/")[0]: line.split() for line in inspected.splitlines() if "/kernel" in line
    }
    assert {
        name: words.count(str(expected[name])) > 0 for name, words in lines.items()
    } == dict.fromkeys(lines, True)


def test_int4_where_the_codes_fit(tmp_path):
    rules = [
        tq.Rule("stem|head", tq.DoReFa(3)),
        tq.Rule("depthwise", tq.WRPN(4)),
        tq.Rule("pointwise", tq.DoReFa(4)),
    ]
    stored = checked(small(rules), tmp_path, "int4")
    assert stored == {"stem": "int4", "head": "int4", "depthwise": "int4", "pointwise": "int8"}


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_activations_in_the_unit_range_run_exactly(bits, tmp_path):
    q = small([tq.Rule(".*", tq.WRPN(4))], tq.UnitRange(bits))
    checked(q, tmp_path)
    grids = {layer.name: (layer.bits, layer.fixed_scale) for layer in activation_layers(q)}
    unit = (bits, 1 / (2**bits - 1))
    assert grids["pool_quantizer"] == grids["depthwise_quantizer"] == unit
    assert grids["image_quantizer"] == grids["head_quantizer"] == (8, None)


def test_the_report_shows_beta_over_time_and_the_sine(tmp_path):
    q = mixed()
    figures = [tq.kernel_figures(q)] * 3
    write_report(tmp_path / "r.html", q, figures=figures)
    text = (tmp_path / "r.html").read_text()
    assert "Learned bits of the weights, without the sign" in text
    assert "the sine that pulls weights to its minima" in text
    assert "pointwise/kernel, 4 bits" in text and "depthwise/kernel, 8 bits" in text
    plain = small([tq.Rule(".*", tq.DoReFa(2))])
    write_report(tmp_path / "plain.html", plain)
    assert "the sine" not in (tmp_path / "plain.html").read_text()


@pytest.mark.parametrize("quantizer", [tq.WRPN(3), tq.DoReFa(3), tq.LearnedBits()], ids=repr)
def test_weights_are_drawn_where_their_codes_are(quantizer):
    q = small([tq.Rule(".*", quantizer)])
    for kernel, w in kernels(q):
        codes, params = kernel.encode(w)
        half = 0.5 if quantizer.has_zero else 1.0
        assert np.abs(kernel.quantizer.code_positions(w, params) - codes).max() <= half + 1e-4
