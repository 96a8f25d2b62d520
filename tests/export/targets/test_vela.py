"""Vela: what it places on the NPU, what that takes, and that the rules in targets/ foretell it."""

from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import graphs
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.targets.rules import load_target, target_findings, target_names
from tfqreg.export.targets.vela import compile_for_npu, missing_vela

ETHOS = [name for name in target_names() if load_target(name).vela]
pytestmark = pytest.mark.skipif(missing_vela() is not None, reason="ethos-u-vela is not installed")


def beyond_the_rules() -> graphs.Graph:
    """One operator for each rule, beyond it; its neighbours within."""
    b = graphs.Builder(0)
    x = b.input((20, 20, 4))
    wide = b.input((1, 5000, 4))
    outputs = [
        graphs.conv(b, x, 5, (5, 5), (4, 4)),
        graphs.conv(b, x, 5, stride=(4, 4), padding="VALID"),
        graphs.depthwise(b, x, stride=(4, 4), padding="VALID"),
        graphs.pool(b, x, "AVERAGE_POOL_2D", (9, 9), (2, 2), "SAME"),
        graphs.pool(b, x, "AVERAGE_POOL_2D", (9, 9), (2, 2), "VALID"),
        graphs.pool(b, x, "AVERAGE_POOL_2D", (10, 10), (10, 10), "SAME"),
        graphs.pool(b, x, "AVERAGE_POOL_2D", (5, 5), (4, 4), "SAME"),
        graphs.pool(b, x, "MAX_POOL_2D", (5, 5), (4, 4), "SAME"),
        graphs.pool(b, x, "MAX_POOL_2D", (2, 2), (4, 4), "SAME"),
        graphs.pool(b, x, "MAX_POOL_2D", (5, 5), (4, 4), "VALID"),
        graphs.mean(b, wide),
        graphs.mean(b, x),
    ]
    return b.finish(*outputs)


@pytest.mark.parametrize("target", ETHOS)
def test_the_rules_foretell_what_vela_leaves_to_the_cpu(target):
    for graph in (beyond_the_rules(), graphs.float_io(0)):
        tflite = write_tflite(graph)
        found = {finding.path for finding in target_findings(tflite, load_target(target))}
        report = compile_for_npu(tflite, target)
        assert {name.split(" ", 1)[1] for name in report.cpu_operators} == found
        assert report.operators == len(graph.ops)
        assert report.npu_operators == len(graph.ops) - len(found)


@pytest.mark.parametrize("target", ETHOS)
def test_every_operator_lands_on_the_npu(target):
    graph = graphs.every_operator(0)
    graph.outputs = [op.outputs[0] for op in graph.ops]  # Vela drops what no output needs
    tflite = write_tflite(graph)
    assert target_findings(tflite, load_target(target)) == []
    report = compile_for_npu(tflite, target)
    assert report.cpu_operators == {}
    assert (report.npu_operators, report.npu_fraction) == (len(graph.ops), 1.0)


@pytest.mark.parametrize("target", ETHOS)
def test_weights_of_two_bits_need_less_flash(target):
    graph = graphs.residual_net(0)
    before = compile_for_npu(write_tflite(graph), target)
    for tensor in graph.tensors.values():
        if tensor.data is not None and tensor.dtype == "int8":
            tensor.data[...] = np.sign(tensor.data) * 64
    after = compile_for_npu(write_tflite(graph), target)
    assert after.off_chip_flash_bytes < 0.8 * before.off_chip_flash_bytes
    assert min(after.sram_bytes, after.cycles, after.macs) > 0
    assert after.dram_bytes == 0
    assert str(after).startswith(
        f"{target}: {len(graph.ops)} of {len(graph.ops)} operators on the NPU, "
    )


def test_weights_of_four_bits_end_vela_and_break_a_rule():
    model: Any = schema.ModelT.InitFromPackedBuf(write_tflite(graphs.float_io(0)))
    kernel = next(
        t
        for t in model.subgraphs[0].tensors
        if len(t.shape) == 2 and model.buffers[t.buffer].data is not None
    )
    kernel.type = schema.TensorType.INT4
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    tflite = bytes(builder.Output())
    found = [finding.received for finding in target_findings(tflite, load_target(ETHOS[0]))]
    assert "weight type INT4" in found
    with pytest.raises(RuntimeError, match="Vela failed on the model: "):
        compile_for_npu(tflite, ETHOS[0])


def test_errors():
    with pytest.raises(
        ValueError, match=r"No NPU compiler knows this target. .* Received: target='tflite-micro'"
    ):
        compile_for_npu(b"", "tflite-micro")
    with pytest.raises(ValueError, match=r"This \.tflite file is damaged. .* Received: 9 bytes"):
        compile_for_npu(b"\xff\xff\xff\x7fTFL3\xff", ETHOS[0])
    with pytest.raises(
        ValueError, match=r"A target is one of android-arm64, .* Received: target='tpu'"
    ):
        compile_for_npu(b"", "tpu")
