"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

from tests.export.container.tflite_models import dense_layers
from tfqreg.export import container

MODULES = [
    module.name for module in pkgutil.walk_packages(container.__path__, f"{container.__name__}.")
]


@pytest.fixture(scope="module")
def packed() -> tuple[bytes, bytes]:
    model = dense_layers(0, [80, 50, 10], 4, 0.9)
    return model, container.pack(model)


@pytest.mark.parametrize("name", MODULES)
def test_examples(
    name: str, packed: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = packed
    (tmp_path / "m.tflite").write_bytes(model)
    (tmp_path / "m.tqw").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(
        module, extraglobs={"model": model, "container": data}, optionflags=flags
    )
    assert failed == 0
