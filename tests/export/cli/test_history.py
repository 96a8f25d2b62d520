"""The history that `tfqreg report` draws: what is right is taken, all else refused in one line."""

import json
from pathlib import Path

import pytest

from tfqreg.export.cli import main
from tfqreg.export.cli.files import UserError
from tfqreg.export.cli.history import load_history

DEEP = "[" * 100_000
RIGHT = {
    "float": {"loss": [0.5, 0.25], "val_loss": [float("nan")]},
    "quantized": {},
    "figures": [{"conv/kernel": {"beta": 3.5, "sparsity": None}}],
    "result": {"keras_accuracy": 0.5, "versions": {"keras": "3"}, "note": "any"},
}
WRONG = [
    ("[1]", "a history is an object with some of float"),
    ('{"loss": [1]}', "a history is an object with some of float"),
    (DEEP, "its JSON nests too deeply"),
    ('{"float": ' + DEEP, "its JSON nests too deeply"),
    ('{"float": 1}', '"float" is lists of numbers by name'),
    ('{"float": {"loss": 0.5}}', '"float" is lists of numbers by name'),
    ('{"quantized": {"loss": ["low"]}}', '"quantized" is lists of numbers by name'),
    ('{"figures": {"a": 1}}', '"figures" is a list with'),
    ('{"figures": [[1]]}', '"figures" is a list with'),
    ('{"figures": [{"a": 1}]}', '"figures" is a list with'),
    ('{"figures": [{"a": {"beta": "x"}}]}', '"figures" is a list with'),
    ('{"result": [1]}', '"result" is an object'),
    ('{"result": {"keras_accuracy": "high"}}', '"result" is an object'),
    ('{"result": {"float_bytes": null}}', '"result" is an object'),
    ('{"result": {"versions": 3}}', '"result" is an object'),
    ('{"float": null}', '"float" is lists of numbers by name'),
    ('{"float": {"loss": [1e400]}}', '"float" is lists of numbers by name'),
]


def test_a_right_history(tmp_path):
    path = tmp_path / "h.json"
    path.write_text(json.dumps(RIGHT))
    assert json.dumps(load_history(path)) == json.dumps(RIGHT)


@pytest.mark.parametrize("text, message", WRONG)
def test_a_wrong_history_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "h.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_history(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))


def test_the_command_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("h.json").write_text(DEEP)
    assert main(["report", "m.tqw", "-o", "r.html", "--history", "h.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
