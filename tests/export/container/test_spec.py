"""SPEC.md says what the code does: the example dump, the rules with their vectors, the numbers."""

import re

from tests.export.container import hexdump, make_vectors
from tfqreg.export.container.format import cells, index, sections, spans, states, table
from tfqreg.export.container.format.dictionary import DICTIONARY

TEXT = hexdump.SPEC.read_text()


def test_the_example_is_the_golden_file() -> None:
    assert hexdump.block() in TEXT


def test_the_dictionary_is_the_one_in_use() -> None:
    assert hexdump.dictionary_block() in TEXT
    assert len(DICTIONARY) == 1024


def test_every_byte_of_the_example_is_shown_once() -> None:
    rows = re.findall(
        r"^ *([0-9a-f]+)  ((?:[0-9a-f]{2} ?)+)",
        hexdump.annotate(hexdump.EXAMPLE.read_bytes()),
        re.M,
    )
    shown = b"".join(bytes.fromhex(row) for _, row in rows)
    assert shown == hexdump.EXAMPLE.read_bytes()


def test_every_must_reject_rule_names_its_vectors() -> None:
    rules = TEXT.split("## A decoder MUST reject")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", rules)) == set(make_vectors.bad())


def test_the_numbers_of_the_spec_are_those_of_the_code() -> None:
    for enum in (sections.SectionType, index.Codec, spans.SpanKind, cells.Axis):
        for member in enum:
            assert re.search(rf"\| {member.value} \| {member.name} ", TEXT), member
    assert f"{table.MIN_BITS} or {table.MAX_BITS} probability bits" in TEXT
    assert (
        f"fewer than {states.LANES_FROM:,} weights has 1 lane, any other has {states.MAX_LANES}"
        in TEXT
    )
    assert f"2**{index.MIN_CHUNK_LOG2} to 2**{index.MAX_CHUNK_LOG2}" in TEXT
