"""The SKELETON section: spans that tile the output exactly once, in order, then the literals.

A span is a varint `length * 8 + kind`, length in bytes of output, and for some kinds the places it
reads:

    0 LITERAL      the next `length` bytes of the literals
    1 TENSOR       the next tensor of INDEX; its length follows from its shape, the field is 0
    2 ZERO         `length` zero bytes
    3 PRODUCT_F32  varint a, varint b: float32 i is float32(at a) * float32(at b + 4 i)
    4 COPY         varint a: the `length` bytes from output byte a
    5 BASE         varint a: the `length` bytes from byte a of the base

What PRODUCT_F32 and COPY read does not overlap the span itself. A decoder works in two passes. The
first writes LITERAL, TENSOR, ZERO and BASE, and zeros for the other two. The second fills
PRODUCT_F32 and COPY in order, from what the output then holds. An encoder lets them read only bytes
that the first pass or an earlier span of the second has written.

literals.py has the literals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from .cursor import Reader, varint

# How many places a span of each kind reads.
OPERANDS = (0, 0, 0, 2, 1, 1)
F32_BYTES = 4


class SpanKind(IntEnum):
    """Where the bytes of a span come from."""

    LITERAL = 0
    TENSOR = 1
    ZERO = 2
    PRODUCT_F32 = 3
    COPY = 4
    BASE = 5


@dataclass(frozen=True)
class Span:
    """`length` bytes of output; `operands` are offsets in the output, for BASE in the base."""

    kind: SpanKind
    length: int
    operands: tuple[int, ...] = ()


def write_span(span: Span) -> bytes:
    """Returns the stored form of `span`.

    >>> write_span(Span(SpanKind.COPY, 16, (300,))).hex()
    '8401ac02'
    """
    length = 0 if span.kind == SpanKind.TENSOR else span.length
    return varint(length << 3 | span.kind) + b"".join(varint(offset) for offset in span.operands)


def read_spans(
    reader: Reader, output_bytes: int, tensors: Sequence[int], base_bytes: int | None = None
) -> list[Span]:
    """Reads spans until they cover the output; refuses any that do not fit it.

    Args:
        reader: the section.
        output_bytes: size of the output.
        tensors: bytes of each tensor of the index.
        base_bytes: size of the base. Default: there is none.
    """
    spans: list[Span] = []
    offset = used = 0
    while offset < output_bytes:
        span = _read_span(reader, tensors[used] if used < len(tensors) else None)
        used += span.kind == SpanKind.TENSOR
        spans.append(span)
        if offset + span.length > output_bytes:
            raise reader.error(
                f"a span ends at output byte {offset + span.length}, the output at {output_bytes}"
            )
        _check_operands(reader, span, offset, output_bytes, base_bytes)
        offset += span.length
    if used < len(tensors):
        raise reader.error(f"the spans place {used} of {len(tensors)} tensors")
    return spans


def _read_span(reader: Reader, tensor: int | None) -> Span:
    field = reader.varint()
    length, kind = field >> 3, field & 7
    if kind not in SpanKind._value2member_map_:
        raise reader.error(f"span kind {kind} is unknown")
    if kind == SpanKind.TENSOR:
        if length or tensor is None:
            raise reader.error(
                f"a TENSOR span has length {length}"
                if length
                else "a TENSOR span has no tensor left"
            )
        return Span(SpanKind.TENSOR, tensor)
    if length == 0:
        raise reader.error(f"a {SpanKind(kind).name} span is empty")
    if kind == SpanKind.PRODUCT_F32 and length % F32_BYTES:
        raise reader.error(f"a PRODUCT_F32 span has {length} bytes, not whole float32")
    return Span(SpanKind(kind), length, tuple(reader.varint() for _ in range(OPERANDS[kind])))


def _check_operands(
    reader: Reader, span: Span, offset: int, output_bytes: int, base_bytes: int | None
) -> None:
    """Refuses a span at output byte `offset` that reads what is not there, or itself."""
    name = span.kind.name
    if span.kind == SpanKind.BASE:
        if base_bytes is None:
            raise reader.error("a BASE span stands in a container without BASE")
        if span.operands[0] + span.length > base_bytes:
            raise reader.error(
                f"a BASE span reads byte {span.operands[0] + span.length} of {base_bytes} of the "
                f"base"
            )
        return
    sizes = (F32_BYTES, span.length) if span.kind == SpanKind.PRODUCT_F32 else (span.length,)
    for place, size in zip(span.operands, sizes, strict=False):
        if place + size > output_bytes:
            raise reader.error(
                f"a {name} span reads output bytes {place} to {place + size} of {output_bytes}"
            )
        if place < offset + span.length and offset < place + size:
            raise reader.error(
                f"a {name} span at output byte {offset} of {span.length} bytes reads itself"
            )
