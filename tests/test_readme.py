"""The README's example runs as it stands, on few digits."""

import re
from pathlib import Path

import keras
import pytest

from benchmarks.helpers.data import mnist
from tfqreg.export.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_examples_run_and_are_exact(tmp_path, monkeypatch, capsys):
    code, without_training = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (x, y), _, (x_test, y_test) = mnist()
    digits = (
        ((255 * x[:2000, ..., 0]).astype("uint8"), y[:2000]),
        ((255 * x_test[:200, ..., 0]).astype("uint8"), y_test[:200]),
    )
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: digits)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "litert: 0 of" in capsys.readouterr().out
    assert (tmp_path / "m.tqw").stat().st_size < (tmp_path / "m.tflite").stat().st_size / 4
    exec(compile(without_training, "README.md", "exec"), names)
    assert "litert: 0 of" in capsys.readouterr().out
    assert keras.models.load_model("m.keras").predict(names["x_test"][:3], verbose=0).shape == (
        3,
        10,
    )


def test_every_command_of_the_readme_exists(capsys):
    commands = re.findall(r"^tfqreg (\w+) \w+\.", README, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"tfqreg {command}" in capsys.readouterr().out


def test_every_file_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
