"""`inspect`: how many bytes each part of a container takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..decoder.layout import Layout, read_layout
from ..decoder.tensors import decode_tensors
from ..decoder.unpack import check_base, fill
from ..encoder.symbols import entropy_bits
from ..format.cells import Axis
from ..format.elements import common_shift, to_codes
from ..format.index import Entry, write_entry
from ..format.limits import DEFAULT_LIMITS, Limits
from ..format.sections import SectionType
from ..format.spans import Span, SpanKind, write_span
from ..tflite.locate import locate
from .huffman import huffman_bytes


@dataclass(frozen=True)
class TensorInfo:
    """One coded tensor.

    `bits` is the width of its codes once the common shift is taken out, and `entropy_bytes` their
    zero-order entropy, the least that a coder without contexts can reach; `huffman_bytes` is a
    static Huffman code of them, without its table. `coded_bytes` include the `map_bytes`.
    `table_bytes` count each table for the tensor that uses it first; `tables` is how many it uses.
    `classes` is what its weights are told apart by: "", "rows", "rows x columns", "neighbours" ...
    """

    index: int
    name: str
    shape: tuple[int, ...]
    codec: str
    bits: int
    shift: int
    weights: int
    nonzeros: int
    entropy_bytes: float
    huffman_bytes: float
    raw_bytes: int
    coded_bytes: int
    map_bytes: int
    table_bytes: int
    index_bytes: int
    tables: int
    classes: str
    is_weight: bool


@dataclass(frozen=True)
class SpanInfo:
    """All spans of one kind: how many, the output bytes they cover, and their container bytes.

    Those of LITERAL include the compressed literals. Those of TENSOR are of the spans alone; its
    data counts elsewhere.
    """

    count: int
    output_bytes: int
    coded_bytes: int


@dataclass(frozen=True)
class ContainerInfo:
    """All bytes of a container: `header + base + pool + index + skeleton + chunks = container`."""

    container_bytes: int
    output_bytes: int
    header_bytes: int
    base_bytes: int
    pool_bytes: int
    index_bytes: int
    skeleton_bytes: int
    chunk_bytes: int
    spans: dict[str, SpanInfo]
    tensors: tuple[TensorInfo, ...]

    @property
    def weight_stream_bytes(self) -> int:
        """Coded bytes and tables of the weights: rank 2 or more, or elements of at most 8 bits."""
        return sum(
            tensor.coded_bytes + tensor.table_bytes for tensor in self.tensors if tensor.is_weight
        )

    @property
    def overhead_bytes(self) -> int:
        """Everything but `weight_stream_bytes`."""
        return self.container_bytes - self.weight_stream_bytes


def inspect(
    container: bytes, limits: Limits = DEFAULT_LIMITS, base: bytes | None = None
) -> ContainerInfo:
    """Returns the size of every part of `container`, which it unpacks and checks.

    Args:
        container: the whole `.tqw`.
        limits: sizes to refuse. Default 2 GiB of output and 65,536 tensors.
        base: the `.tflite` or `.tqw` that a delta was packed against. Default none.

    Raises:
        ContainerError: as `unpack` does.

    Example:
        >>> inspect(container).weight_stream_bytes < len(container)
        True
    """
    layout = read_layout(container, limits)
    before = check_base(layout.base, base, limits)
    data = decode_tensors(layout, before)
    output = fill(layout, data, before)
    sizes = {kind: len(layout.header.section(kind).data) for kind in SectionType}
    return ContainerInfo(
        container_bytes=len(container),
        output_bytes=len(output),
        header_bytes=layout.header.header_bytes,
        base_bytes=sizes[SectionType.BASE],
        pool_bytes=sizes[SectionType.POOL],
        index_bytes=sizes[SectionType.INDEX],
        skeleton_bytes=sizes[SectionType.SKELETON],
        chunk_bytes=sizes[SectionType.CHUNKS],
        spans=_span_info(layout.spans, sizes[SectionType.SKELETON]),
        tensors=tuple(_tensors(layout, data, output)),
    )


def _tensors(layout: Layout, data: Sequence[bytes], output: bytes) -> Iterator[TensorInfo]:
    """Yields the tensors in order; each table counts for the first that uses it."""
    constants = {constant.start: constant for constant in locate(output)[0]}
    counted: set[int] = set()
    number = offset = 0
    for span in layout.spans:
        if span.kind == SpanKind.TENSOR:
            entry, constant = layout.entries[number], constants.get(offset)
            used = {*entry.tables, *([entry.map_table] if entry.classes.cells > 1 else [])}
            table_bytes = sum(layout.table_bytes[table] for table in used - counted)
            counted |= used
            name, signed = (constant.name, constant.signed) if constant else ("", True)
            yield _tensor_info(number, name, entry, data[number], signed, table_bytes)
            number += 1
        offset += span.length


def _tensor_info(
    number: int, name: str, entry: Entry, data: bytes, signed: bool, table_bytes: int
) -> TensorInfo:
    wide = entry.width == 64
    codes = (
        np.frombuffer(data, "<i8") if wide else to_codes(data, entry.weights, entry.width, signed)
    )
    counts = np.unique(codes, return_counts=True)[1]
    return TensorInfo(
        index=number,
        name=name,
        shape=entry.shape,
        codec=entry.codec.name,
        bits=entry.width - common_shift(codes),
        shift=entry.shift,
        weights=entry.weights,
        nonzeros=int(np.count_nonzero(codes)),
        entropy_bytes=float(entropy_bits(counts)) / 8,
        huffman_bytes=huffman_bytes(codes),
        raw_bytes=entry.output_bytes,
        coded_bytes=entry.coded_bytes,
        map_bytes=entry.map_bytes,
        table_bytes=table_bytes,
        index_bytes=len(write_entry(entry)),
        tables=len({*entry.tables}),
        classes=_classes(entry),
        is_weight=entry.width <= 8 or len(entry.shape) > 1,
    )


def _classes(entry: Entry) -> str:
    axis = entry.classes.axis.name.lower() if entry.classes.axis != Axis.NONE else ""
    return " x ".join(filter(None, ["rows" if entry.classes.rows > 1 else "", axis]))


def _span_info(spans: Sequence[Span], skeleton_bytes: int) -> dict[str, SpanInfo]:
    counts = dict.fromkeys(SpanKind, 0)
    covered = dict.fromkeys(SpanKind, 0)
    costs = dict.fromkeys(SpanKind, 0)
    for span in spans:
        counts[span.kind] += 1
        covered[span.kind] += span.length
        costs[span.kind] += len(write_span(span))
    costs[SpanKind.LITERAL] += skeleton_bytes - sum(costs.values())
    return {kind.name: SpanInfo(counts[kind], covered[kind], costs[kind]) for kind in SpanKind}
