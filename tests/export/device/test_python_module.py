"""`unpack` in C and in numpy: the same bytes and errors; and installing without a compiler."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.export.device.builds import ROOT, bad, good, tool
from tests.export.device.synthetic import Synthetic
from tests.export.device.test_decoder import base_of
from tfqreg.export.container import ContainerError, Limits, unpack
from tfqreg.export.container.decoder import native


def build_extension(folder: Path, **environment: str) -> list[Path]:
    """Runs what pip runs; returns the modules that it made."""
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        folder,
        "--build-temp",
        folder,
    ]
    subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **environment}
    )
    return list(folder.rglob("_tqw*.so"))


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    tool("cc")
    (path,) = build_extension(tmp_path_factory.mktemp("extension"))
    spec = importlib.util.spec_from_file_location("_tqw", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["c", "numpy"])
def either(
    request: pytest.FixtureRequest, extension: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setattr(native, "c_decode", extension.decode)
    if request.param == "numpy":
        monkeypatch.setenv("TFQREG_DECODER", "numpy")
    else:
        monkeypatch.delenv("TFQREG_DECODER", raising=False)
    return request.param


def test_which_decoder(either: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.decoder() == either
    monkeypatch.setattr(native, "c_decode", None)
    assert native.decoder() == "numpy"


def test_good_vectors(either: str) -> None:
    for path in good():
        base = base_of(path)
        model = unpack(path.read_bytes(), base=base.read_bytes() if base else None)
        assert model == path.with_suffix(".tflite").read_bytes()


def test_errors_name_the_byte(either: str) -> None:
    for path in bad():
        with pytest.raises(ContainerError, match=", byte "):
            unpack(path.read_bytes())


def test_limits(either: str) -> None:
    data = good()[0].read_bytes()
    with pytest.raises(ContainerError, match="the limit is 100"):
        unpack(data, Limits(output_bytes=100))


def test_base(either: str) -> None:
    made = next(made for made in map(Synthetic, range(20)) if made.base)
    assert unpack(memoryview(made.container), base=made.base) == made.output
    for wrong in (None, made.base[:-1], bytes(len(made.base))):
        with pytest.raises(ContainerError, match="BASE"):
            unpack(made.container, base=wrong)


def test_progress(either: str) -> None:
    seen: list[tuple[int, int]] = []
    model = unpack(good()[0].read_bytes(), progress=lambda *state: seen.append(state))
    assert seen[-1] == (len(model), len(model)) and seen == sorted(seen)


def test_an_error_of_the_progress_callback_comes_through(either: str) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(good()[0].read_bytes(), progress=stop)


def test_hostile_sizes_do_not_allocate(extension: ModuleType) -> None:
    path = next(path for path in bad() if path.stem == "output_over_limit")
    with pytest.raises(ValueError, match="limits"):
        extension.decode(path.read_bytes(), 1 << 31, 1 << 16, None, None)


def test_without_a_compiler_there_is_no_module_and_no_error(tmp_path: Path) -> None:
    assert build_extension(tmp_path, CC="/bin/false") == []
