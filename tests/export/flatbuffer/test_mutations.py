"""Damaged files: whatever reads a `.tflite` works, or says in the project's words what is wrong."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.export import small_model
from tfqreg.errors import ModelError
from tfqreg.export import kernel_exponents, pack
from tfqreg.export.cli import main
from tfqreg.export.container import ContainerError
from tfqreg.export.export import exported_graph
from tfqreg.export.flatbuffer.read import ends_of_file, read_form, read_operators
from tfqreg.export.flatbuffer.write import write_tflite
from tfqreg.export.report.summary import summarize
from tfqreg.export.targets.rules import load_target, target_findings, target_names

MUTANTS = 400
MUTANTS_PACKED = 25  # a second each
READERS = [read_operators, ends_of_file, read_form, kernel_exponents]


def mutants(tflite: bytes, count: int, seed: int) -> list[bytes]:
    """Files with one to four bytes changed, most of them in the tables; some are cut off too."""
    chance = random.Random(seed)
    weights = range(1000, len(tflite) - 3000)  # about: bytes that no reader looks at
    places = [place for place in range(8, len(tflite)) if place not in weights]
    made = []
    for _ in range(count):
        mutant = bytearray(tflite)
        for _ in range(chance.choice((1, 1, 2, 4))):
            place = chance.choice(places)
            changed = (0, 1, 127, 255, mutant[place] ^ 1 << chance.randrange(8))
            mutant[place] = chance.choice(changed)
        if chance.random() < 0.1:
            del mutant[chance.randrange(8, len(mutant)) :]
        made.append(bytes(mutant))
    return made


@pytest.fixture(scope="module")
def tflite() -> bytes:
    """A file with an entry in the metadata."""
    return write_tflite(exported_graph(small_model.trained()[0], portable=True))


def outcome(function, mutant: bytes) -> str:
    try:
        function(mutant)
    except (ModelError, ContainerError) as error:
        assert "\n" not in str(error)
        return "refused"
    return "read"


@pytest.mark.parametrize("reader", READERS)
def test_readers_read_or_refuse(tflite, reader):
    counts = Counter(outcome(reader, mutant) for mutant in mutants(tflite, MUTANTS, 0))
    assert counts["read"] > MUTANTS // 10
    assert counts["refused"] > MUTANTS // 10


@pytest.mark.parametrize("name", target_names())
def test_targets_read_or_refuse(tflite, name):
    target = load_target(name)
    counts = Counter(
        outcome(lambda mutant: target_findings(mutant, target), mutant)
        for mutant in mutants(tflite, MUTANTS // 4, 1)
    )
    assert counts["read"] > 0
    assert counts["refused"] > 0


@pytest.mark.parametrize("function", [summarize, pack])
def test_the_container_reads_or_refuses(tflite, function):
    counts = Counter(outcome(function, mutant) for mutant in mutants(tflite, MUTANTS_PACKED, 2))
    assert counts["read"] > 0
    assert counts["refused"] > 0


def test_the_command_line_answers_in_one_line(tflite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    codes = Counter()
    for mutant in mutants(tflite, MUTANTS_PACKED, 3):
        Path("m.tflite").write_bytes(mutant)
        for command in ("inspect", "check --target tflite-micro", "report -o r.html"):
            name, *options = command.split()
            code = main([name, "m.tflite", *options])
            err = capsys.readouterr().err
            assert (code in (0, 1) and not err) or (code == 2 and err.count("\n") == 1), err
            codes[code] += 1
    assert codes[0] > 0
    assert codes[2] > 0
