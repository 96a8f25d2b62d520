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

MODULES = [module.name for module in pkgutil.iter_modules(export.__path__) if not module.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    module = importlib.import_module(f"tfqreg.export.{name}")
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    if not tests:
        return
    if name == "npu" and (reason := missing_vela()):
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
