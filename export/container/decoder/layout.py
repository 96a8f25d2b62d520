"""Everything of a container but its coded bytes, read and checked before anything is decoded."""

from dataclasses import dataclass

import numpy as np

from ..format.index import Entry, read_entry
from ..format.limits import DEFAULT_LIMITS, Limits
from ..format.literals import inflate
from ..format.sections import Base, Header, SectionType, read_base, read_container
from ..format.spans import Span, SpanKind, read_spans
from ..format.table import MAX_TABLES, Table, read_table


@dataclass(frozen=True)
class Layout:
    """All of a container but its chunks, parsed and checked against each other."""

    header: Header
    base: Base | None
    tables: list[Table]
    table_bytes: list[int]
    entries: list[Entry]
    spans: list[Span]
    literals: bytes


def read_layout(container: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Layout:
    """Parses and checks everything up to the coded chunks."""
    header = read_container(container, limits)
    base = read_base(header)
    base_bytes = base.size if base else None
    tables, table_bytes = _read_tables(header)
    entries = _read_entries(header, tables, limits, base_bytes)
    skeleton = header.section(SectionType.SKELETON)
    spans = read_spans(
        skeleton, header.output_bytes, [entry.output_bytes for entry in entries], base_bytes
    )
    literals = inflate(
        skeleton, sum(span.length for span in spans if span.kind == SpanKind.LITERAL)
    )
    chunks = header.section(SectionType.CHUNKS)
    coded = sum(entry.coded_bytes for entry in entries)
    if coded != len(chunks.data):
        raise chunks.error(
            f"the tensors need {coded} coded bytes, the section has {len(chunks.data)}"
        )
    return Layout(header, base, tables, table_bytes, entries, spans, literals)


def _read_tables(header: Header) -> tuple[list[Table], list[int]]:
    """Returns the tables of POOL and the bytes that each takes."""
    pool = header.section(SectionType.POOL)
    tables, ends = [], [0]
    while not pool.at_end:
        if len(tables) == MAX_TABLES:
            raise pool.error(f"there are more than {MAX_TABLES} tables")
        tables.append(read_table(pool))
        ends.append(pool.position)
    return tables, np.diff(ends).tolist()


def _read_entries(
    header: Header, tables: list[Table], limits: Limits, base_bytes: int | None
) -> list[Entry]:
    index = header.section(SectionType.INDEX)
    entries: list[Entry] = []
    while not index.at_end:
        if len(entries) == limits.tensors:
            raise index.error(
                f"there are more than {limits.tensors} tensors",
                "Raise Limits.tensors if you trust the file.",
            )
        entries.append(read_entry(index, header.output_bytes, tables, base_bytes))
    return entries
