"""The examples in the docstrings of the export, on a small trained model and its files."""

import doctest
import importlib
import pkgutil
from types import SimpleNamespace

import pytest

from tests.export import small_model
from tfqreg import export
from tfqreg.export import export_tflite
from tfqreg.export.targets.vela import missing_vela

ELSEWHERE = "tfqreg.export.container"  # tests/export/container has examples of its own
# Running it is the command itself.
COMMAND = "tfqreg.export.cli.__main__"
MODULES = [
    module.name
    for module in pkgutil.walk_packages(export.__path__, "tfqreg.export.")
    if module.name != COMMAND and not module.name.startswith(ELSEWHERE)
]


def test_every_room_is_walked():
    rooms = {name.split(".")[2] for name in MODULES}
    assert {"cli", "kernels", "lowering", "report", "targets", "verification"} <= rooms
    assert len(MODULES) > 60


# Classes that functions return, whose examples show them.
WITHOUT_EXAMPLE = {"NpuReport", "Report", "Summary"}


def test_what_is_public_has_an_example():
    finder = doctest.DocTestFinder(recurse=False)
    without = {
        name
        for name in export.__all__
        if not any(test.examples for test in finder.find(getattr(export, name), name))
    }
    assert without == WITHOUT_EXAMPLE


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    if not tests:
        return
    if name == "tfqreg.export.targets.vela" and (reason := missing_vela()):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    model, _, rows = small_model.trained()
    export_tflite(model, "m.tflite", container="m.tqw")
    names = {
        "model": model,
        "tflite": (tmp_path / "m.tflite").read_bytes(),
        "monitor": SimpleNamespace(rows=rows),
    }
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, attempted = doctest.testmod(module, extraglobs=names, optionflags=flags)
    assert attempted and not failed
