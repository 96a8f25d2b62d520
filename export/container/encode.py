"""`pack`: from a `.tflite` to a `.tqw`, the smallest of the codecs for every constant in it."""

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .decode import Progress
from .elements import common_shift, to_codes
from .fit import Fit, fit
from .index import MAX_CHUNK_LOG2, MIN_CHUNK_LOG2, Codec, Entry, chunk_counts, write_entry
from .locate import Constant, Product, locate
from .sections import SectionType, write_container
from .spans import Span, SpanKind, deflate, write_span
from .states import MAX_LANES
from .table import Table, write_table
from .tans_encode import PlainChunk, encode_chunks

# Below these sizes a span of its own costs more than what deflate makes of the bytes.
MIN_TENSOR_BYTES = 16
MIN_ZERO_BYTES = 64
MIN_DERIVED_BYTES = 16
# A tensor among the literals can neither be decoded alone nor be inspected: it must save something there.
WORTH_A_LITERAL = 0.99
CLOSE_LOOK_BYTES = 1 << 16
# A chunk is made long enough for its first states to be this small a part of it.
STATES_PER_CHUNK = 1 / 800


@dataclass(frozen=True)
class _Plan:
    """How one tensor will be coded; `codes` and `fit` for TANS only."""

    entry: Entry
    data: bytes
    codes: np.ndarray | None = None
    fit: Fit | None = None


def pack(tflite: bytes, progress: Progress | None = None) -> bytes:
    """Returns a container from which `unpack` restores every byte of `tflite`.

    Args:
        tflite: the whole file, with whatever is appended to it.
        progress: called with the input bytes coded and their total. Default none.

    Raises:
        ContainerError: `tflite` is not a `.tflite`.

    Example:
        >>> len(pack(model)) < len(model)
        True
    """
    spans, literals, plans = _plan(tflite)
    pool, entries, chunks = _code(plans, len(tflite), progress)
    sections = {
        SectionType.POOL: pool,
        SectionType.INDEX: b"".join(map(write_entry, entries)),
        SectionType.SKELETON: b"".join(map(write_span, spans)) + deflate(literals),
        SectionType.CHUNKS: chunks,
    }
    if progress:
        progress(len(tflite), len(tflite))
    return write_container(len(tflite), hashlib.sha256(tflite).digest(), sections)


def _plan(tflite: bytes) -> tuple[list[Span], bytes, list[_Plan]]:
    """Cuts the file into spans; returns them, the literals, and the tensors in order."""
    constants, products = locate(tflite)
    derived = _products(constants, products)
    copies: dict[int, int] = {}
    first_with: dict[bytes, int] = {}
    spans: list[Span] = []
    plans: list[_Plan] = []
    literals = bytearray()
    done = 0
    for constant in constants:
        data = tflite[constant.start : constant.start + constant.size]
        span = _derive(constant, data, derived, first_with, copies)
        if span is None:
            plan = _plan_tensor(constant, data)
            if plan is None:
                continue
            plans.append(plan)
            span = Span(SpanKind.TENSOR, constant.size)
        if constant.start > done:
            spans.append(Span(SpanKind.LITERAL, constant.start - done))
            literals += tflite[done : constant.start]
        spans.append(span)
        done = constant.start + constant.size
    if len(tflite) > done:
        spans.append(Span(SpanKind.LITERAL, len(tflite) - done))
        literals += tflite[done:]
    return [_through_copies(span, copies) for span in spans], bytes(literals), plans


def _products(constants: Sequence[Constant], products: Sequence[Product]) -> dict[int, Product]:
    """Returns by place the products worth a span, none of which reads another."""
    sizes = {constant.start: constant.size for constant in constants}
    chosen = {p.start: p for p in products if p.size >= MIN_DERIVED_BYTES and sizes.get(p.start) == p.size}
    return {start: p for start, p in chosen.items() if p.scalar not in chosen and p.array not in chosen}


def _derive(
    constant: Constant,
    data: bytes,
    products: dict[int, Product],
    first_with: dict[bytes, int],
    copies: dict[int, int],
) -> Span | None:
    """Returns a span that costs no coded bytes, or None."""
    if constant.start in products:
        product = products[constant.start]
        return Span(SpanKind.PRODUCT_F32, product.size, (product.scalar, product.array))
    if constant.size >= MIN_ZERO_BYTES and data.count(0) == len(data):
        return Span(SpanKind.ZERO, constant.size)
    first = first_with.setdefault(data, constant.start)
    if first != constant.start and constant.size >= MIN_DERIVED_BYTES:
        copies[constant.start] = first
        return Span(SpanKind.COPY, constant.size, (first,))
    return None


def _through_copies(span: Span, copies: dict[int, int]) -> Span:
    """A product reads the source of a copy, which may itself come later than the product."""
    if span.kind == SpanKind.PRODUCT_F32:
        return replace(span, operands=tuple(copies.get(place, place) for place in span.operands))
    return span


def _plan_tensor(constant: Constant, data: bytes) -> _Plan | None:
    """Returns the cheapest way to code a tensor, or None where the literals are cheaper still."""
    if constant.size < MIN_TENSOR_BYTES:
        return None
    plans = [_Plan(Entry(Codec.RAW, constant.shape, constant.width, zlib.crc32(data)), data)]
    element = data[: max(constant.width // 8, 1)]
    if data == element * (len(data) // len(element)):
        plans.append(_Plan(replace(plans[0].entry, codec=Codec.CONST), element))
    elif constant.width <= 32:
        plans.append(_plan_tans(constant, plans[0]))
    best = min(plans, key=_cost)
    # A hard look at every weight would take most of the time of packing, and change nothing.
    level = 9 if constant.size <= CLOSE_LOOK_BYTES else 1
    return best if WORTH_A_LITERAL * _cost(best) <= len(deflate(data, level)) else None


def _plan_tans(constant: Constant, raw: _Plan) -> _Plan:
    codes = to_codes(raw.data, math.prod(constant.shape), constant.width, constant.signed)
    shift = common_shift(codes)
    codes = codes >> shift
    found = fit(codes.astype(np.int64))
    entry = replace(raw.entry, codec=Codec.TANS, shift=shift, chunk_log2=_chunk_log2(found, len(codes)))
    return _Plan(entry, raw.data, codes, found)


def _chunk_log2(found: Fit, count: int) -> int:
    """Returns the smallest chunk limit at which the states of a chunk are a small part of it."""
    enough = MAX_LANES * found.table.bits / STATES_PER_CHUNK * count / max(found.data_bits, 1)
    log2 = (math.ceil(min(enough, count)) - 1).bit_length()
    return min(max(log2, MIN_CHUNK_LOG2), MAX_CHUNK_LOG2)


def _cost(plan: _Plan) -> float:
    """Bytes of a tensor's entry, table and coded data, the last as estimated where it is not made yet."""
    cost = len(write_entry(plan.entry)) + plan.entry.coded_bytes
    return cost + plan.fit.data_bits / 8 + len(write_table(plan.fit.table)) if plan.fit else cost


def _code(plans: Sequence[_Plan], total: int, progress: Progress | None) -> tuple[bytes, list[Entry], bytes]:
    """Returns the pool, the finished index entries and the coded bytes of all tensors."""
    numbers: dict[Table, int] = {}
    plain: list[PlainChunk] = []
    for plan in plans:
        if plan.codes is not None and plan.fit is not None:
            numbers.setdefault(plan.fit.table, len(numbers))
            ends = np.cumsum(chunk_counts(plan.entry.shape, plan.entry.chunk_log2))[:-1]
            plain += [PlainChunk(part, plan.fit.table) for part in np.split(plan.codes, ends)]
    coded = [b""] * len(plain)
    done = 0
    for chunk, data in encode_chunks(plain):
        coded[chunk] = data
        done += plain[chunk].codes.nbytes
        if progress:
            progress(min(done, total), total)
    entries, chunks, first = [], [], 0
    for plan in plans:
        if plan.fit is None:
            entries.append(plan.entry)
            chunks.append(plan.data)
            continue
        last = first + len(chunk_counts(plan.entry.shape, plan.entry.chunk_log2))
        sizes = tuple(map(len, coded[first:last]))
        entries.append(replace(plan.entry, table=numbers[plan.fit.table], chunk_bytes=sizes))
        chunks += coded[first:last]
        first = last
    return b"".join(map(write_table, numbers)), entries, b"".join(chunks)
