"""`pack_file` and `unpack_file`: whole results or none, and no temporary file left behind."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.container.tflite_models import dense_layers
from tfqreg.export.container import ContainerError, Limits, pack, pack_file, unpack_file

ROOT = Path(__file__).parents[3]
MODEL = dense_layers(0, [64, 32, 10], 4, 0.9)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(MODEL)
    return path


def test_round_trip(model: Path) -> None:
    packed, back = model.with_suffix(".tqw"), model.with_name("back.tflite")
    assert pack_file(model, packed) == packed.stat().st_size == len(pack(MODEL))
    assert unpack_file(str(packed), str(back)) == len(MODEL)
    assert back.read_bytes() == MODEL
    assert {path.name for path in model.parent.iterdir()} == {"m.tflite", "m.tqw", "back.tflite"}
    assert stat.S_IMODE(back.stat().st_mode) == stat.S_IMODE(model.stat().st_mode)


def test_an_existing_target_is_replaced(model: Path) -> None:
    target = model.with_suffix(".tqw")
    target.write_bytes(b"old")
    pack_file(model, target)
    assert target.read_bytes() == pack(MODEL)


def test_the_data_is_on_disk_before_it_gets_its_name(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), sync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    pack_file(model, model.with_suffix(".tqw"))
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_failure_leaves_the_folder_as_it_was(
    model: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    target = model.with_suffix(".tqw")
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(type(error)):
        pack_file(model, target)
    assert target.read_bytes() == b"old"
    assert {path.name for path in model.parent.iterdir()} == {"m.tflite", "m.tqw"}


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the write itself fails half way."""
    program = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, "export")
from container.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomically(Path(sys.argv[1]), bytes(100_000))
"""
    target = tmp_path / "m.tqw"
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OSError" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_file(model: Path) -> None:
    bad = model.with_name("bad.tqw")
    bad.write_bytes(pack(MODEL)[:-1])
    with pytest.raises(ContainerError, match=r"bad\.tqw: header, byte"):
        unpack_file(bad, model.with_name("out"))
    with pytest.raises(ContainerError, match=r"bad\.tqw: byte 4"):
        pack_file(bad, model.with_name("out"))
    bad.write_bytes(pack(MODEL))
    with pytest.raises(ContainerError, match="the limit is 100"):
        unpack_file(bad, model.with_name("out"), Limits(output_bytes=100))
    assert not model.with_name("out").exists()


def test_progress(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    pack_file(model, model.with_suffix(".tqw"), progress=lambda *state: seen.append(state))
    assert seen[-1] == (len(MODEL), len(MODEL))


def test_a_delta(model: Path) -> None:
    newer = model.with_name("newer.tflite")
    newer.write_bytes(dense_layers(1, [64, 32, 10], 4, 0.9))
    old, delta, back = (model.with_name(name) for name in ("old.tqw", "delta.tqw", "back.tflite"))
    pack_file(model, old)
    pack_file(newer, delta, base=old)
    unpack_file(delta, back, base=model)
    assert back.read_bytes() == newer.read_bytes()
    with pytest.raises(ContainerError, match=r"delta\.tqw: BASE, byte 0: .* none was given"):
        unpack_file(delta, model.with_name("out"))
