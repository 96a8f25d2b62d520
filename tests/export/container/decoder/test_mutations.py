"""Damage: every changed or missing byte is noticed, by nothing but `ContainerError`."""

import random
import subprocess
import sys

import pytest

from tests.export.container import make_vectors
from tfqreg.export.container import ContainerError, pack, unpack
from tfqreg.export.container.format.limits import DEFAULT_LIMITS
from tfqreg.export.container.format.sections import read_container, write_container

SMALL = ("dense", "float", "appended")


@pytest.fixture(scope="module")
def containers() -> dict[str, bytes]:
    return {name: pack(model) for name, model in make_vectors.good().items() if name in SMALL}


@pytest.mark.parametrize("name", SMALL)
def test_every_changed_byte_is_detected(containers: dict[str, bytes], name: str) -> None:
    container = containers[name]
    changes = range(1, 256) if name == "appended" else (1, 16, 128, 255)
    for place in range(len(container)):
        for change in changes:
            mutant = bytearray(container)
            mutant[place] ^= change
            with pytest.raises(ContainerError):
                unpack(bytes(mutant))


@pytest.mark.parametrize("name", SMALL)
def test_every_truncation_is_detected(containers: dict[str, bytes], name: str) -> None:
    for length in range(len(containers[name])):
        with pytest.raises(ContainerError):
            unpack(containers[name][:length])


@pytest.mark.parametrize("name", [*SMALL, "mixed"])
def test_damage_under_right_checksums_is_detected_or_harmless(name: str) -> None:
    """Changes bytes and seals the file again, to reach the checks that come after the crc32."""
    model = make_vectors.good()[name]
    header = read_container(pack(model), DEFAULT_LIMITS)
    sections = {kind: bytes(reader.data) for kind, reader in header.sections.items()}
    chance = random.Random(0)
    for kind in sections:
        for place in range(0, len(sections[kind]), 1 + len(sections[kind]) // 150):
            mutant = bytearray(sections[kind])
            mutant[place] ^= chance.choice((1, 2, 4, 8, 16, 32, 64, 128, chance.randrange(1, 256)))
            data = write_container(len(model), header.sha256, sections | {kind: bytes(mutant)})
            try:
                assert unpack(data) == model
            except ContainerError as error:
                assert ", byte " in str(error)


def test_the_decoder_imports_neither_the_encoder_nor_the_schema() -> None:
    program = """
import sys, types, pathlib
package = types.ModuleType("container")
package.__path__ = [str(pathlib.Path("export/container"))]
sys.modules["container"] = package
import container.decoder.unpack
names = ("container.", "ai_edge", "flatbuffers", "tensorflow")
print(*(m for m in sys.modules if m.startswith(names)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=make_vectors.VECTORS.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "container.format.table" in loaded
    assert [m for m in loaded if m.split(".")[1] not in ("_tqw", "decoder", "format")] == []
