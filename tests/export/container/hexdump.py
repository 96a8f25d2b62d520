"""Annotates a container byte by byte, for SPEC.md.

`python -m tests.export.container.hexdump` writes it in there.
"""

from tests.export.container.make_vectors import VECTORS
from tfqreg.export.container.decoder.layout import Layout, read_layout
from tfqreg.export.container.format.cursor import Reader, unzigzag
from tfqreg.export.container.format.dictionary import DICTIONARY
from tfqreg.export.container.format.index import Codec
from tfqreg.export.container.format.literals import RESET_PROPERTIES
from tfqreg.export.container.format.sections import CRITICAL, SectionType
from tfqreg.export.container.format.spans import OPERANDS, SpanKind
from tfqreg.export.container.format.table import read_table

SPEC = VECTORS.parents[1] / "export" / "container" / "SPEC.md"
EXAMPLE = VECTORS / "good" / "dense.tqw"
FENCES = "<!-- dense.tqw -->\n```text\n", "```\n<!-- end -->"
DICTIONARY_FENCES = "<!-- dictionary -->\n```text\n", "```\n<!-- end of dictionary -->"
WIDTH = 12


class _Dump:
    """Lines of `offset  hex  meaning` that advance over a container field by field."""

    def __init__(self, container: bytes) -> None:
        self.reader = Reader(container, "container")
        self.lines: list[str] = []

    def title(self, text: str) -> None:
        self.lines.append(f"{'':{8 + 3 * WIDTH}}{text}")

    def since(self, start: int, meaning: str) -> None:
        data = bytes(self.reader.data[start : self.reader.position])
        for place in range(0, len(data), WIDTH):
            row = data[place : place + WIDTH].hex(" ")
            text = f"  {meaning}" if place == 0 else ""
            self.lines.append(f"{start + place:6x}  {row:{3 * WIDTH - 1}}{text}".rstrip())

    def bytes(self, count: int, meaning: str) -> None:
        start = self.reader.position
        self.reader.take(count)
        self.since(start, meaning)

    def u8(self, meaning: str) -> int:
        start = self.reader.position
        value = self.reader.u8()
        self.since(start, meaning.format(value))
        return value

    def varint(self, meaning: str) -> int:
        start = self.reader.position
        value = self.reader.varint()
        self.since(start, meaning.format(value))
        return value


def annotate(container: bytes) -> str:
    """Returns one line per field of `container`, each byte shown once."""
    layout = read_layout(container)
    dump = _Dump(container)
    _header(dump)
    writers = {
        SectionType.POOL: _pool,
        SectionType.INDEX: _index,
        SectionType.SKELETON: _skeleton,
        SectionType.CHUNKS: _chunks,
    }
    for kind, write in writers.items():
        dump.title(f"-- {kind.name} --")
        write(dump, layout)
    assert dump.reader.at_end
    return "\n".join(dump.lines) + "\n"


def _header(dump: _Dump) -> None:
    dump.title("-- header --")
    dump.bytes(8, "magic")
    dump.u8("major version {}")
    dump.u8("minor version {}")
    dump.u8("incompatible flags {}")
    dump.u8("compatible flags {}")
    dump.bytes(32, "SHA-256 of the output")
    dump.varint("output: {} bytes")
    for _ in range(dump.u8("{} sections")):
        kind = SectionType(dump.reader.data[dump.reader.position] & ~CRITICAL)
        dump.u8(f"section {kind.name} ({kind.value}), critical")
        dump.varint("    {} bytes")
        dump.bytes(4, "    its crc32")
    dump.bytes(4, "crc32 of all of the above")


def _pool(dump: _Dump, layout: Layout) -> None:
    for number, size in enumerate(layout.table_bytes):
        start = dump.reader.position
        table = read_table(Reader(dump.reader.data[start : start + size], "table"))
        first = unzigzag(dump.varint(f"table {number}, first code: zigzag {{}}"))
        assert first == table.first
        counts = " ".join(map(str, table.frequencies))
        dump.bytes(
            start + size - dump.reader.position,
            f"    {table.bits} probability bits, precision {table.precision},",
        )
        dump.title(
            f"        {len(table.extras)} bins, peak {table.peak}, extra bits {table.extras[0]}"
        )
        dump.title(f"        frequencies {counts}")


def _index(dump: _Dump, layout: Layout) -> None:
    for number, entry in enumerate(layout.entries):
        dump.u8(f"tensor {number}: codec {entry.codec.name}, rank {len(entry.shape)}")
        dump.u8(f"    {entry.width} bits, shift {entry.shift}")
        for _ in entry.shape:
            dump.varint("    dimension {}")
        dump.bytes(4, "    crc32 of its bytes")
        if entry.codec == Codec.TANS:
            dump.u8("    form {}: chunk limit 2**16, no classes")
            assert entry.classes.cells == 1 and entry.chunk_log2 == 16
            dump.u8("    table {}")
            for _ in entry.chunk_bytes:
                dump.varint("    chunk of {} bytes")


def _skeleton(dump: _Dump, layout: Layout) -> None:
    for span in layout.spans:
        start = dump.reader.position
        dump.reader.varint()
        operands = [dump.reader.varint() for _ in range(OPERANDS[span.kind])]
        length = "" if span.kind == SpanKind.TENSOR else f" {span.length}"
        dump.since(
            start, " ".join([f"{span.kind.name}{length}", *(f"from {place}" for place in operands)])
        )
    control = dump.u8("literals: LZMA chunk, control byte {}")
    assert control == RESET_PROPERTIES
    dump.bytes(2, f"    {len(layout.literals)} bytes")
    size = 1 + int.from_bytes(dump.reader.data[dump.reader.position :][:2], "big")
    dump.bytes(2, f"    in {size}")
    dump.bytes(1, "    properties")
    dump.bytes(size, "    packed")
    dump.u8("end of the literals")


def _chunks(dump: _Dump, layout: Layout) -> None:
    for number, entry in enumerate(layout.entries):
        dump.bytes(entry.coded_bytes, f"tensor {number}: {entry.weights} weights")


def block() -> str:
    """Returns the fenced block of SPEC.md."""
    return FENCES[0] + annotate(EXAMPLE.read_bytes()) + FENCES[1]


def dictionary_block() -> str:
    """Returns the other fenced block of SPEC.md."""
    rows = [DICTIONARY[place : place + 32].hex() for place in range(0, len(DICTIONARY), 32)]
    return DICTIONARY_FENCES[0] + "\n".join(rows) + "\n" + DICTIONARY_FENCES[1]


def main() -> None:
    text = SPEC.read_text()
    for (first, last), new in ((FENCES, block()), (DICTIONARY_FENCES, dictionary_block())):
        before, rest = text.split(first)
        text = before + new + rest.split(last, 1)[1]
    SPEC.write_text(text)


if __name__ == "__main__":
    main()
