"""The SKELETON section: spans that tile the output exactly once, in order, then the literals as raw deflate.

A span is a varint `length * 8 + kind`, length in bytes of output, and for two kinds the places it reads:

    0 LITERAL      the next `length` bytes of the inflated literals
    1 TENSOR       the next tensor of INDEX; its length follows from its shape, the field is 0
    2 ZERO         `length` zero bytes
    3 PRODUCT_F32  varint a, varint b: float32 i is float32(at a) * float32(at b + 4 i), nearest even
    4 COPY         varint a: the `length` bytes from output byte a, not overlapping the span itself

A decoder works in two passes. The first writes LITERAL, TENSOR and ZERO, and zeros for the other two. The
second fills PRODUCT_F32 and COPY in order, from what the output then holds. An encoder lets them read only
bytes that the first pass or an earlier span of the second has written.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from .cursor import Reader, varint

OPERANDS = (0, 0, 0, 2, 1)
F32_BYTES = 4


class SpanKind(IntEnum):
    """Where the bytes of a span come from."""

    LITERAL = 0
    TENSOR = 1
    ZERO = 2
    PRODUCT_F32 = 3
    COPY = 4


@dataclass(frozen=True)
class Span:
    """`length` bytes of output; `operands` are offsets in the output."""

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


def deflate(literals: bytes, level: int = 9) -> bytes:
    """Returns `literals` as one raw deflate stream, nothing for nothing; `level` is zlib's, 1 to 9."""
    if not literals:
        return b""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return packer.compress(literals) + packer.flush()


def read_spans(reader: Reader, output_bytes: int, tensors: Sequence[int]) -> list[Span]:
    """Reads spans until they cover the output; refuses any that do not fit it.

    Args:
        reader: the section.
        output_bytes: size of the output.
        tensors: bytes of each tensor of the index.
    """
    spans: list[Span] = []
    offset = used = 0
    while offset < output_bytes:
        span = _read_span(reader, offset, tensors[used] if used < len(tensors) else None)
        used += span.kind == SpanKind.TENSOR
        spans.append(span)
        offset += span.length
        if offset > output_bytes:
            raise reader.error(f"a span ends at output byte {offset}, the output at {output_bytes}")
        for operand, size in zip(span.operands, _operand_bytes(span), strict=True):
            if operand + size > output_bytes:
                raise reader.error(f"a span reads output bytes {operand} to {operand + size} of {output_bytes}")
    if used < len(tensors):
        raise reader.error(f"the spans place {used} of {len(tensors)} tensors")
    return spans


def _read_span(reader: Reader, offset: int, tensor: int | None) -> Span:
    field = reader.varint()
    length, kind = field >> 3, field & 7
    if kind not in SpanKind._value2member_map_:
        raise reader.error(f"span kind {kind} is unknown")
    if kind == SpanKind.TENSOR:
        if length or tensor is None:
            raise reader.error(f"a TENSOR span has length {length}" if length else "a TENSOR span has no tensor left")
        return Span(SpanKind.TENSOR, tensor)
    if length == 0:
        raise reader.error(f"a {SpanKind(kind).name} span is empty")
    operands = tuple(reader.varint() for _ in range(OPERANDS[kind]))
    if kind == SpanKind.PRODUCT_F32 and length % F32_BYTES:
        raise reader.error(f"a PRODUCT_F32 span has {length} bytes, not whole float32")
    if kind == SpanKind.COPY and abs(operands[0] - offset) < length:
        raise reader.error(f"a COPY span at output byte {offset} of {length} bytes reads itself")
    return Span(SpanKind(kind), length, operands)


def _operand_bytes(span: Span) -> tuple[int, ...]:
    return {SpanKind.PRODUCT_F32: (F32_BYTES, span.length), SpanKind.COPY: (span.length,)}.get(span.kind, ())


def read_literals(reader: Reader, spans: Sequence[Span]) -> bytes:
    """Inflates the rest of the section; refuses a size other than that of all LITERAL spans."""
    size = sum(span.length for span in spans if span.kind == SpanKind.LITERAL)
    data = reader.data[reader.position :]
    if not size:
        if len(data):
            raise reader.error(f"{len(data)} bytes follow the spans, which have no literals")
        return b""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        literals = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise reader.error(f"the literals do not inflate ({error})") from None
    if len(literals) != size or not inflater.eof or inflater.unused_data:
        more = "or more" if len(literals) > size else "and the stream does not end there"
        raise reader.error(f"the literals inflate to {len(literals)} bytes {more}, the spans need {size}")
    return literals
