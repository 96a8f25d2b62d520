"""The C decoder on vectors, damage and random containers: the verdict and bytes of numpy's."""

import hashlib
import re
import zlib
from pathlib import Path

import pytest

from tests.export.device.builds import DEVICE, SANITIZE, bad, checker, decode, good, run
from tests.export.device.synthetic import Synthetic
from tfqreg.export.container import ContainerError, unpack
from tfqreg.export.container.decoder.layout import read_layout

HEADER = (DEVICE / "tqw.h").read_text()
ERRORS = re.findall(r"TQW_\w+", HEADER.split("typedef enum {")[1].split("}")[0])
RULES = (DEVICE.parent / "container" / "SPEC.md").read_text().split("## A decoder MUST reject")[1]
# The codes that may answer for each rule of SPEC.md.
ANSWERS = [
    {"TQW_NOT_TQW", "TQW_NEWER", "TQW_BAD_CHECKSUM"},
    {"TQW_OVER_LIMIT"},
    {"TQW_BAD_VARINT"},
    {"TQW_BAD_SECTIONS", "TQW_NEWER", "TQW_BAD_CHECKSUM"},
    {"TQW_BAD_TABLE"},
    {"TQW_BAD_ENTRY", "TQW_BAD_TABLE"},
    {"TQW_BAD_ENTRY", "TQW_BAD_CHUNK"},
    {"TQW_WRONG_BASE", "TQW_BAD_SECTIONS", "TQW_BAD_ENTRY", "TQW_BAD_SPAN"},
    {"TQW_BAD_SPAN"},
    {"TQW_BAD_LITERALS"},
    {"TQW_BAD_CHUNK"},
    {"TQW_BAD_CHECKSUM"},
]


@pytest.fixture(autouse=True)
def numpy_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What C is compared with."""
    monkeypatch.setenv("TFQREG_DECODER", "numpy")


def base_of(path: Path) -> Path | None:
    """Returns the file to give as the base of a vector."""
    base = path.with_suffix(".base")
    return base if base.exists() else None


@pytest.mark.parametrize("path", good(), ids=lambda path: path.stem)
def test_good_vectors(path: Path) -> None:
    expected = hashlib.sha256(path.with_suffix(".tflite").read_bytes()).hexdigest()
    assert decode(checker(*SANITIZE), [path], base_of(path)) == {path: (0, expected)}


def test_bad_vectors_are_refused_by_their_rule() -> None:
    rules = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^## )", RULES, re.M | re.S)
    assert len(rules) == len(ANSWERS)
    for path in bad():
        error, _ = decode(checker(*SANITIZE), [path], base_of(path))[path]
        (rule,) = [number for number, text in enumerate(rules) if f"`{path.stem}`" in text]
        assert ERRORS[error] in ANSWERS[rule], f"{path.stem}: {ERRORS[error]}"


def small() -> list[Path]:
    return sorted(good(), key=lambda path: path.stat().st_size)[:3]


def test_every_changed_byte_is_detected() -> None:
    for line in run(checker("-O2"), "mutate", "1", "16", "128", "255", "--", *small()).splitlines():
        assert line.endswith(" 0"), line


def test_every_shorter_file_is_detected() -> None:
    for line in run(checker(*SANITIZE), "truncate", *small()).splitlines():
        assert line.endswith(" 0"), line


def test_data_that_changes_after_it_was_opened() -> None:
    """No access outside of the buffers, which is for the sanitizers to say."""
    classes = [path for path in good() if path.stem in ("columns", "neighbours_int4")]
    run(checker(*SANITIZE, "-DTQW_IGNORE_CHECKSUMS"), "change", "1", "128", "--", *classes)


@pytest.mark.parametrize("seed", range(24))
def test_random_containers(tmp_path: Path, seed: int) -> None:
    made = Synthetic(seed)
    assert unpack(made.container, base=made.base or None) == made.output
    path, base = tmp_path / "m.tqw", tmp_path / "base"
    path.write_bytes(made.container)
    base.write_bytes(made.base)
    digest = hashlib.sha256(made.output).hexdigest()
    assert decode(checker(*SANITIZE), [path], base) == {path: (0, digest)}


class _Anything:
    """A checksum that matches."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return True

    def digest(self) -> "_Anything":
        return self

    def hexdigest(self) -> str:
        return ""


def test_damage_past_the_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both decoders without their checksums decode the same damaged files to the same bytes."""
    blind = checker("-O2", "-DTQW_IGNORE_CHECKSUMS")
    mutants: dict[Path, bytes] = {}
    base = tmp_path / "base"
    base.write_bytes(Synthetic(3).base)
    for seed in (3, 4):
        made = Synthetic(seed, tensors=2)
        start = read_layout(made.container).header.header_bytes
        for place in range(start, len(made.container), 1 + (len(made.container) - start) // 40):
            path = tmp_path / f"{seed}_{place}.tqw"
            data = bytearray(made.container)
            data[place] ^= 1 << place % 8
            path.write_bytes(data)
            mutants[path] = bytes(data)
    found = decode(blind, list(mutants), base)
    sha256, accepted = hashlib.sha256, 0
    monkeypatch.setattr(hashlib, "sha256", lambda data: _Anything())
    monkeypatch.setattr(zlib, "crc32", lambda data: _Anything())
    for path, data in mutants.items():
        try:
            output = unpack(data, base=base.read_bytes())
        except ContainerError:
            assert found[path][0], f"{path.name}: C decodes what numpy refuses"
        else:
            assert found[path] == (0, sha256(output).hexdigest()), path.name
            accepted += 1
    assert 0 < accepted < len(mutants)
