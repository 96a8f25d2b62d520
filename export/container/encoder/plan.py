"""Cuts a `.tflite` into spans, and chooses how each constant in it is coded, if by itself."""

import lzma
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..format.elements import common_shift, to_codes
from ..format.index import Codec, Entry, write_entry
from ..format.spans import Span, SpanKind
from ..format.table import write_table
from ..tflite.locate import Constant, Product, locate
from .class_choice import Subject, choose_classes
from .delta import Predecessor
from .symbols import LARGEST, raw_bits
from .table_fit import FittedTable, fit_table
from .table_pool import TABLE_PRICE

# Below these sizes a span of its own costs more than what the literals' coder makes of the bytes.
MIN_TENSOR_BYTES = 16
# Zeros among the literals cost almost nothing, copies and products more.
MIN_ZERO_BYTES = 64
MIN_DERIVED_BYTES = 16
# A tensor among the literals can neither be decoded alone nor be inspected, so it must save 1 %.
WORTH_A_LITERAL = 0.99
# A hard look at every weight would take most of the time of packing, and change nothing.
CLOSE_LOOK_BYTES = 1 << 16
# What zlib and xz add to the stream that they compress to.
ZLIB_FRAME_BYTES, LZMA_FRAME_BYTES = 6, 56
# Weights that are zero together may be parts of rows. Each part has a class in the map, which must
# not cost much beside its columns.
PARTS_OF_A_ROW, MIN_COLUMNS_OF_A_PART = (2, 4, 8, 16), 16


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor will be coded.

    Args:
        entry: its entry in the index, not finished for TANS and DELTA.
        data: its bytes for RAW and CONST, those of the file for TANS and DELTA.
        subject: its codes, for TANS and DELTA only.
        fitted: a table for it alone, for TANS and DELTA only.
    """

    entry: Entry
    data: bytes
    subject: Subject | None = None
    fitted: FittedTable | None = None

    @property
    def bits(self) -> float:
        """Bits of a tensor's entry, table and coded data, estimated if it is not coded yet."""
        bits = 8.0 * (len(write_entry(self.entry)) + self.entry.coded_bytes)
        if self.fitted:
            bits += self.fitted.data_bits + 8 * len(write_table(self.fitted.table))
        return bits


@dataclass(frozen=True)
class Plan:
    """Spans that tile a file, the literals among them, and the tensors in order."""

    spans: list[Span]
    literals: bytes
    tensors: list[TensorPlan]


class _Tiling:
    """Spans and literals as they grow."""

    def __init__(self, tflite: bytes, before: Predecessor | None) -> None:
        self.tflite, self.before = tflite, before
        self.spans: list[Span] = []
        self.literals = bytearray()
        self.done = 0

    def add(self, start: int, span: Span) -> None:
        """Adds a span, and what lies between it and the one before as literals or from the base."""
        self.fill(start)
        self._append(span)
        self.done = start + span.length

    def fill(self, end: int) -> None:
        """Covers the file up to `end`."""
        last = self.spans[-1] if self.spans else None
        after = last.operands[0] + last.length if last and last.kind == SpanKind.BASE else None
        whole = [(end - self.done, None)]
        for size, place in (
            self.before.runs(self.tflite, self.done, end, after) if self.before else whole
        ):
            if size and place is not None:
                self._append(Span(SpanKind.BASE, size, (place,)))
            elif size:
                self._append(Span(SpanKind.LITERAL, size))
                self.literals += self.tflite[self.done : self.done + size]
            self.done += size

    def _append(self, span: Span) -> None:
        last = self.spans[-1] if self.spans else None
        if (
            last
            and last.kind == span.kind == SpanKind.BASE
            and last.operands[0] + last.length == span.operands[0]
        ):
            self.spans[-1] = replace(last, length=last.length + span.length)
        else:
            self.spans.append(span)


def plan(tflite: bytes, before: Predecessor | None = None) -> Plan:
    """Returns the plan of a file, as a delta if there is one before it.

    Raises:
        ContainerError: `tflite` is not a `.tflite`.
    """
    constants, products = locate(tflite)
    derived = _products(constants, products)
    copies: dict[int, int] = {}
    first_with: dict[bytes, int] = {}
    tensors: list[TensorPlan] = []
    tiling = _Tiling(tflite, before)
    for constant in constants:
        data = tflite[constant.start : constant.start + constant.size]
        place = before.same(constant, data) if before else None
        if place is not None:
            span = Span(SpanKind.BASE, constant.size, (place,))
        else:
            span = _derive(constant, data, derived, first_with, copies)
        if span is None:
            tensor = _plan_tensor(constant, data, before)
            if tensor is None:
                continue
            tensors.append(tensor)
            span = Span(SpanKind.TENSOR, constant.size)
        tiling.add(constant.start, span)
    tiling.fill(len(tflite))
    return Plan(
        [_through_copies(span, copies) for span in tiling.spans], bytes(tiling.literals), tensors
    )


def _products(constants: Sequence[Constant], products: Sequence[Product]) -> dict[int, Product]:
    """Returns by place the products worth a span, none of which reads another."""
    sizes = {constant.start: constant.size for constant in constants}
    chosen = {
        p.start: p for p in products if p.size >= MIN_DERIVED_BYTES and sizes.get(p.start) == p.size
    }
    return {
        start: p for start, p in chosen.items() if p.scalar not in chosen and p.array not in chosen
    }


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
    """Lets a product read the source of a copy: the copy may itself come later than the product."""
    if span.kind == SpanKind.PRODUCT_F32:
        return replace(span, operands=tuple(copies.get(place, place) for place in span.operands))
    return span


def _plan_tensor(constant: Constant, data: bytes, before: Predecessor | None) -> TensorPlan | None:
    """Returns the cheapest way to code a tensor, or None if the literals are cheaper still."""
    if constant.size < MIN_TENSOR_BYTES:
        return None
    plans = [TensorPlan(Entry(Codec.RAW, constant.shape, constant.width, zlib.crc32(data)), data)]
    element = data[: max(constant.width // 8, 1)]
    if data == element * (len(data) // len(element)):
        plans.append(TensorPlan(replace(plans[0].entry, codec=Codec.CONST), element))
    elif constant.width <= 32:
        codes = to_codes(data, math.prod(constant.shape), constant.width, constant.signed)
        plans.append(_tans(plans[0], codes))
        earlier = before.find(constant) if before else None
        if before and earlier:
            old = to_codes(before.bytes_of(earlier), len(codes), constant.width, signed=False)
            entry = replace(plans[0].entry, codec=Codec.DELTA, base=earlier.start)
            plans.append(
                _tans(replace(plans[0], entry=entry), _differences(codes, old, constant.width), old)
            )
    best = min(plans, key=lambda tensor: tensor.bits)
    level = 9 if constant.size <= CLOSE_LOOK_BYTES else 1
    literal_bytes = len(zlib.compress(data, level)) - ZLIB_FRAME_BYTES
    if WORTH_A_LITERAL * best.bits <= 8 * literal_bytes:
        return best
    return _in_classes(plans[-1], literal_bytes)


def _in_classes(tensor: TensorPlan, literal_bytes: int) -> TensorPlan | None:
    """Returns the plan with rows cut so that their classes save most, None if literals still win.

    Rows of zeros, or of weights of one size, cost a single table dearly. Groups of weights may be
    parts of rows.
    """
    subject = tensor.subject
    if subject is None or subject.codes.min() < -LARGEST or subject.codes.max() >= LARGEST:
        return None
    best, least = None, 8.0 * min(literal_bytes, len(lzma.compress(tensor.data)) - LZMA_FRAME_BYTES)
    for shape in _shapes(tensor.entry):
        cut = replace(subject, shape=shape)
        split = choose_classes(cut, (TABLE_PRICE,))[0]
        entry = replace(tensor.entry, shape=shape)
        bits = 8.0 * len(write_entry(entry)) + TABLE_PRICE.of(split) + raw_bits(subject.codes)
        if bits < least:
            best, least = replace(tensor, entry=entry, subject=cut), bits
    return best


def _shapes(entry: Entry) -> list[tuple[int, ...]]:
    """Returns a tensor's shape and, for a matrix that is no delta, those with its rows in parts."""
    parts = PARTS_OF_A_ROW if entry.codec == Codec.TANS and len(entry.shape) == 2 else ()
    rows, columns = entry.shape[0], entry.shape[-1]
    return [
        entry.shape,
        *(
            (rows * n, columns // n)
            for n in parts
            if columns % n == 0 and columns // n >= MIN_COLUMNS_OF_A_PART
        ),
    ]


def _tans(raw: TensorPlan, codes: np.ndarray, before: np.ndarray | None = None) -> TensorPlan:
    shift = common_shift(codes)
    codes = codes >> shift
    subject = Subject(codes, raw.entry.shape, raw.entry.width, shift, before)
    codec = Codec.TANS if before is None else Codec.DELTA
    entry = replace(raw.entry, codec=codec, shift=shift)
    return TensorPlan(entry, raw.data, subject, fit_table(codes.astype(np.int64)))


def _differences(codes: np.ndarray, before: np.ndarray, width: int) -> np.ndarray:
    """Returns `codes - before` modulo 2**width as the smaller of both signs, int64 (n,)."""
    half = 1 << (width - 1)
    return ((codes.astype(np.int64) - before + half) & (2 * half - 1)) - half
