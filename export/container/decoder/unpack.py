"""`unpack`: from a `.tqw` back to every byte of the `.tflite`, never looking inside the latter."""

import hashlib
from collections.abc import Sequence

import numpy as np

from ..format.errors import damaged
from ..format.limits import DEFAULT_LIMITS, Limits, Progress
from ..format.sections import MAGIC, SHA256_OFFSET, Base
from ..format.spans import Span, SpanKind
from . import native
from .layout import Layout, read_layout
from .tensors import decode_tensors


def unpack(
    container: bytes | memoryview,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
    base: bytes | None = None,
) -> bytes:
    """Returns the `.tflite` that `container` was packed from, every byte of it.

    Args:
        container: the whole `.tqw`.
        limits: sizes to refuse. Default 2 GiB of output and 65,536 tensors.
        progress: called with the output bytes finished and their total. Default none.
        base: the `.tflite` or `.tqw` that `container` was packed against, if it is a delta. Default
            none.

    Raises:
        ContainerError: the container is damaged, hostile, over the limits, or from a newer version,
            or `base` is not the file it was packed against.

    Example:
        >>> from tfqreg.export.container import pack
        >>> unpack(pack(model)) == model
        True
    """
    if base is not None and bytes(base[: len(MAGIC)]) == MAGIC:
        base = unpack(base, limits)
    whole = native.decode(container, limits, progress, base)
    if whole is not None:
        return whole
    layout = read_layout(container, limits)
    found = check_base(layout.base, base, limits)
    output = fill(layout, decode_tensors(layout, found, progress), found)
    if hashlib.sha256(output).digest() != layout.header.sha256:
        raise damaged("header", SHA256_OFFSET, "the SHA-256 of the output does not match")
    if progress:
        progress(len(output), len(output))
    return output


def check_base(expected: Base | None, base: bytes | None, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Returns the `.tflite` that a delta builds on, empty if the container is no delta.

    Args:
        expected: what the container says of its base.
        base: that `.tflite`, or the `.tqw` of it.
        limits: sizes to refuse.
    """
    if expected is None:
        return b""
    remedy = f"Give the file with SHA-256 {expected.sha256.hex()}, or the .tqw of it."
    if base is None:
        what = f"this is a delta to a file of {expected.size} bytes and none was given"
        raise damaged("BASE", 0, what, remedy)
    if bytes(base[: len(MAGIC)]) == MAGIC:
        base = unpack(base, limits)
    digest = hashlib.sha256(base)
    if digest.digest() != expected.sha256 or len(base) != expected.size:
        what = (
            f"the base must have {expected.size} bytes and another SHA-256. "
            f"Received: {len(base)} bytes, {digest.hexdigest()}"
        )
        raise damaged("BASE", 0, what, remedy)
    return base


def fill(layout: Layout, tensors: Sequence[bytes], base: bytes = b"") -> bytes:
    """Returns the output: its spans filled from literals, decoded tensors and the base.

    The first pass writes what comes from outside; the second copies and multiplies what the first
    has written, which may stand anywhere in the file.
    """
    output = bytearray(layout.header.output_bytes)
    derived: list[tuple[int, Span]] = []
    offset = literal = 0
    remaining = iter(tensors)
    for span in layout.spans:
        end = offset + span.length
        if span.kind == SpanKind.LITERAL:
            output[offset:end] = layout.literals[literal : literal + span.length]
            literal += span.length
        elif span.kind == SpanKind.TENSOR:
            output[offset:end] = next(remaining)
        elif span.kind == SpanKind.BASE:
            output[offset:end] = base[span.operands[0] : span.operands[0] + span.length]
        elif span.kind != SpanKind.ZERO:
            derived.append((offset, span))
        offset = end
    for offset, span in derived:
        end = offset + span.length
        if span.kind == SpanKind.COPY:
            source = span.operands[0]
            output[offset:end] = output[source : source + span.length]
        else:
            scalar, array = span.operands
            output[offset:end] = product_f32(output, scalar, array, span.length)
    return bytes(output)


def product_f32(data: bytes | bytearray, scalar: int, array: int, size: int) -> bytes:
    """Returns `float32(at scalar) * float32(at array + 4 i)` for `size` bytes of results.

    >>> values = np.array([2, 3, 4], "<f4").tobytes()
    >>> np.frombuffer(product_f32(values, 0, 4, 8), "<f4").tolist()
    [6.0, 8.0]
    """
    factor = np.frombuffer(data, "<f4", 1, scalar)
    with np.errstate(all="ignore"):
        return (factor * np.frombuffer(data, "<f4", size // 4, array)).astype("<f4").tobytes()
