"""`tfqreg diagnose`: what it prints, and the node data it writes."""

import json

import numpy as np
import pytest

from tests.export import small_model
from tfqreg.export.cli.commands import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnose")
    small_model.trained()[0].save(folder / "q.keras")
    small_model.float_model().save(folder / "m.keras")
    np.save(folder / "x.npy", small_model.data(32))
    return folder


def test_with_and_without_the_float_model(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["diagnose", "q.keras", "--samples", "x.npy"]) == 0
    assert "without reference=" in capsys.readouterr().out
    command = "diagnose q.keras --samples x.npy --float m.keras --json nodes.json"
    assert main(command.split()) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("32 samples, outputs against the float model: head ")
    assert printed.endswith("nodes.json: node data for Model Explorer\n")
    nodes = json.loads((folder / "nodes.json").read_text())
    assert {"image", "hidden", "head"} <= set(nodes["main"]["results"])


def test_bad_input(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["diagnose", "m.keras", "--samples", "x.npy"]) == 2
    assert "the model is not quantized" in capsys.readouterr().err
    np.save("wide.npy", np.zeros((3, 9, 9, 1), np.float32))
    assert main(["diagnose", "q.keras", "--samples", "wide.npy"]) == 2
    assert "samples must be numbers of shape" in capsys.readouterr().err
