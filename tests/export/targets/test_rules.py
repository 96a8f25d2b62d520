"""Targets are data: every file is sound, and its rules fire where they should."""

from importlib.resources import files

import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.export import graphs
from tfqreg.export.flatbuffer.operators import OPERATORS
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.targets import rules as targets
from tfqreg.export.targets.rules import MEASURES, load_target, target_findings, target_names
from tfqreg.export.verification.runtimes import missing, run


@pytest.mark.parametrize("name", target_names())
def test_files(name):
    target = load_target(name)
    assert target.description
    assert target.consequence
    assert target.evidence
    assert target.severity in ("error", "warning")
    assert target.operators <= {kind for kind in vars(schema.BuiltinOperator) if kind.isupper()}
    for rule in target.rules:
        assert rule["fix"]
        assert {rule["measure"], *rule.get("unless", ())} <= set(MEASURES)
        assert len({"max", "one_of", "within"} & set(rule)) == 1
        assert set(rule.get("operators", ())) <= target.operators
    assert all(measure in str(load_all_rules()) for measure in MEASURES)


def load_all_rules() -> list:
    return [load_target(name).rules for name in target_names()]


def test_the_names():
    assert target_names() == [
        "android-arm64",
        "ethos-u55-128",
        "ethos-u65-256",
        "ethos-u85-256",
        "tflite-micro",
        "tflite_cpu",
    ]
    assert all(
        files("tfqreg.export").joinpath(f"targets/{name}.toml").is_file() for name in target_names()
    )


def test_the_phone_takes_every_operator_that_can_be_written():
    versions = load_target("tflite_cpu").versions
    assert {kind: kind in versions for kind in OPERATORS} == dict.fromkeys(OPERATORS, True)


@pytest.mark.parametrize("name", target_names())
def test_a_net_within_the_rules(name):
    assert target_findings(write_tflite(graphs.residual_net(0)), load_target(name)) == []


def test_an_operator_the_target_lacks():
    (ends, last) = target_findings(write_tflite(graphs.float_io(0)), load_target("ethos-u55-128"))
    assert (ends.path, ends.received) == ("codes1", "activation types FLOAT32, INT8")
    assert (last.path, last.rule) == (
        "output",
        "ethos-u55-128 has no DEQUANTIZE: it runs on the CPU beside the NPU",
    )


def test_a_version_the_target_does_not_know(monkeypatch):
    version, options = OPERATORS["SOFTMAX"]
    monkeypatch.setitem(OPERATORS, "SOFTMAX", (version + 7, options))
    (found,) = target_findings(write_tflite(graphs.residual_net(0)), load_target("tflite_cpu"))
    assert (
        found.rule
        == "tflite_cpu knows SOFTMAX up to version 3: the older runtime refuses the model"
    )
    assert (found.received, found.severity) == ("version 9", "error")


@pytest.mark.skipif(
    missing("tflite-runtime-ref") is not None, reason="tflite-runtime is not installed"
)
def test_the_older_runtime_refuses_that_version(monkeypatch):
    graph = graphs.residual_net(0)
    highest = load_target("tflite_cpu").versions["SOFTMAX"]
    options = OPERATORS["SOFTMAX"][1]
    monkeypatch.setitem(OPERATORS, "SOFTMAX", (highest, options))
    run(write_tflite(graph), graphs.codes(graph, 1), "tflite-runtime-ref")
    monkeypatch.setitem(OPERATORS, "SOFTMAX", (highest + 1, options))
    with pytest.raises(
        RuntimeError, match="Didn't find op for builtin opcode 'SOFTMAX' version '4'"
    ):
        run(write_tflite(graph), graphs.codes(graph, 1), "tflite-runtime-ref")


def test_a_relu6_that_microcontrollers_get_wrong():
    b = graphs.Builder(0)
    x = b.input((4, 4, 3))
    graph = b.finish(graphs.unary(b, x, "RELU6", 1.5))
    (found,) = target_findings(write_tflite(graph), load_target("tflite-micro"))
    assert (found.received, found.severity) == ("grids different", "error")


def test_files_with_mistakes(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "_FOLDER", tmp_path)
    (tmp_path / "odd.toml").write_text('description = "a"\nspeed = 3\n')
    with pytest.raises(
        ValueError, match=r"targets/odd.toml: a key is one of .* Received: \['speed'\]"
    ):
        load_target("odd")
