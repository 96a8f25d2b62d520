"""`tfqreg check`: its table, its exit codes, and what it says of files it cannot look into."""

from pathlib import Path

import keras
import pytest
from keras import layers

from tests.export import small_model
from tfqreg.export import export_tflite
from tfqreg.export.cli import main
from tfqreg.export.cli.check import format_findings
from tfqreg.export.finding import Finding
from tfqreg.export.targets.vela import missing_vela


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    small_model.float_model().save(folder / "float.keras")
    quantized = small_model.trained()[0]
    quantized.save(folder / "quantized.keras")
    export_tflite(quantized, folder / "m.tflite")
    export_tflite(quantized, folder / "float_ends.tflite", float_io=True)
    x = keras.Input((8, 8, 3), name="x")
    y = layers.LayerNormalization(name="scaled")(layers.Conv2D(2, 3, name="conv")(x))
    keras.Model(x, layers.AutoContrast(name="rows")(y)).save(folder / "bad.keras")
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Lambda(lambda y: -y, name="minus")], name="inner"
    )
    keras.Model(x, layers.Lambda(abs, name="positive")(inner(x)), name="outer").save(
        folder / "lambda.keras"
    )
    (folder / "cut.tflite").write_bytes((folder / "m.tflite").read_bytes()[:2000])
    (folder / "text.txt").write_text("hello")
    return folder


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(["check", *argv])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", ["float.keras", "quantized.keras"])
def test_nothing_to_find(folder, capsys, name):
    path = f"{folder}/{name}"
    assert run(capsys, path) == (0, f"{path}: 0 errors, 0 warnings\n", "")
    target = "ethos-u85-256"
    assert run(capsys, path, "--target", target) == (
        0,
        f"{path} for {target}: 0 errors, 0 warnings\n",
        "",
    )


def test_every_error_in_one_table(folder, capsys):
    code, out, err = run(capsys, f"{folder}/bad.keras")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].split() == ["layer", "rule", "received", "fix"]
    assert [line.split()[1] for line in lines if line.startswith("error")] == ["scaled", "rows"]
    assert "LayerNormalization" in out
    assert out.endswith("bad.keras: 2 errors, 0 warnings\n")


def test_a_lambda_that_keras_does_not_load(folder, capsys):
    code, out, _ = run(capsys, f"{folder}/lambda.keras")
    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("error")] == [
        "inner/minus",
        "positive",
    ]
    assert main(["export", f"{folder}/lambda.keras", "-o", f"{folder}/a.tflite"]) == 2
    assert (
        "lambda.keras: inner/minus, positive: Lambda has no integer form" in capsys.readouterr().err
    )
    assert not (folder / "a.tflite").exists()


def test_export_of_a_float_model_asks_for_calibration(folder, capsys):
    assert main(["export", f"{folder}/float.keras", "-o", f"{folder}/a.tflite"]) == 2
    assert "Wrap it with tfqreg.quantize(model), calibrate it first" in capsys.readouterr().err
    assert not (folder / "a.tflite").exists()


@pytest.mark.skipif(missing_vela() is not None, reason="ethos-u-vela is not installed")
def test_a_tflite_on_an_npu(folder, capsys):
    code, out, err = run(capsys, f"{folder}/m.tflite", "--target", "ethos-u55-128")
    assert (code, err) == (0, "")
    assert out.startswith("ethos-u55-128: 4 of 4 operators on the NPU, ")
    assert out.endswith("m.tflite for ethos-u55-128: 0 errors, 0 warnings\n")
    code, out, _ = run(capsys, f"{folder}/float_ends.tflite", "--target", "ethos-u65-256")
    assert code == 0
    assert "ethos-u65-256: 4 of 6 operators on the NPU, " in out
    assert out.endswith("float_ends.tflite for ethos-u65-256: 0 errors, 2 warnings\n")


@pytest.mark.parametrize(
    "argv, message",
    [
        ("m.tflite", "m.tflite: a .tflite is checked for a target. Give --target. Received: none"),
        ("m.tflite --target tpu", "a target is one of android-arm64, ethos-u55-128"),
        ("float.keras --target tpu", "a target is one of android-arm64, ethos-u55-128"),
        ("cut.tflite --target tflite_cpu", "this .tflite file is damaged. Export it again."),
        ("text.txt", "text.txt: this is no .keras or .tflite file. Give one."),
        ("none.keras", "none.keras: cannot be read"),
    ],
)
def test_bad_input(folder, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(folder)
    code, out, err = run(capsys, *argv.split())
    assert (code, out) == (2, "")
    assert err.startswith("tfqreg: ")
    assert message.lower() in err.lower()
    assert err.count("\n") == 1


def test_long_cells_break_at_words():
    findings = [
        Finding("a" * 30, "one two three four five " * 4, "six", "seven eight " * 9),
        Finding("b", "c", "", "d"),
    ]
    lines = format_findings(findings, 80).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert [words.count(word) for word in ("five", "six", "eight", "error")] == [4, 1, 9, 2]
    assert sum(word.count("a") for word in words if set(word) == {"a"}) == 30
