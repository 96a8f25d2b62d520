"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest
from tflite_models import dense_layers

from tfqreg.export import container

MODULES = [module.name for module in pkgutil.iter_modules(container.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dense_layers(0, [800, 500, 10], 4, 0.9)
    (tmp_path / "m.tflite").write_bytes(model)
    (tmp_path / "m.tqw").write_bytes(container.pack(model))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"{container.__name__}.{name}")
    failed, _ = doctest.testmod(module, extraglobs={"model": model, "container": container.pack(model)})
    assert failed == 0
