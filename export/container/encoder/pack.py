"""`pack`: from a `.tflite` to a `.tqw`, the smallest of the codecs for every constant in it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..decoder.unpack import unpack
from ..format.cells import Axis
from ..format.index import MAX_CHUNK_LOG2, MIN_CHUNK_LOG2, Entry, chunk_counts, write_entry
from ..format.limits import Progress
from ..format.sections import MAGIC, Base, SectionType, write_container
from ..format.spans import write_span
from ..format.states import MAX_LANES
from ..format.table import Table, write_table
from .delta import Predecessor
from .literals import compress
from .plan import TensorPlan, plan
from .table_pool import Coding, pool_tables
from .tans import PlainChunk, encode_chunks

# Chunks are made long enough for their first states to be this small a fraction of them. Shorter
# ones keep more lanes of the numpy decoder busy.
STATES_FRACTION = 1 / 800


def pack(tflite: bytes, progress: Progress | None = None, base: bytes | None = None) -> bytes:
    """Returns a container from which `unpack` restores every byte of `tflite`.

    Args:
        tflite: the whole file, with whatever is appended to it.
        progress: called with the input bytes coded and their total. Default none.
        base: a `.tflite` or `.tqw` that whoever unpacks has: the container then holds what changed.
            Default none.

    Raises:
        ContainerError: `tflite` is not a `.tflite`, or `base` neither that nor a whole `.tqw`.

    Example:
        >>> len(pack(model)) < len(model)
        True
        >>> len(pack(model, base=model)) < 200
        True
    """
    if base is not None and bytes(base[: len(MAGIC)]) == MAGIC:
        base = unpack(base)
    found = plan(tflite, None if base is None else Predecessor(base))
    pool, entries, chunks = _code(found.tensors, len(tflite), progress)
    sections = {
        SectionType.BASE: b""
        if base is None
        else Base(hashlib.sha256(base).digest(), len(base)).to_bytes(),
        SectionType.POOL: pool,
        SectionType.INDEX: b"".join(map(write_entry, entries)),
        SectionType.SKELETON: b"".join(map(write_span, found.spans)) + compress(found.literals),
        SectionType.CHUNKS: chunks,
    }
    if progress:
        progress(len(tflite), len(tflite))
    return write_container(len(tflite), hashlib.sha256(tflite).digest(), sections)


def _code(
    plans: Sequence[TensorPlan], total: int, progress: Progress | None
) -> tuple[bytes, list[Entry], bytes]:
    """Returns the pool, the finished index entries and the coded bytes of all tensors."""
    coded = [(one.subject, one.fitted) for one in plans if one.subject and one.fitted]
    codings = iter(pool_tables([subject for subject, _ in coded], [fitted for _, fitted in coded]))
    numbers: dict[Table, int] = {}
    plain: list[PlainChunk] = []
    entries: list[Entry] = []
    for tensor in plans:
        entry = tensor.entry
        if tensor.subject:
            coding = next(codings)
            for table in (*coding.tables, coding.map_table):
                if table:
                    numbers.setdefault(table, len(numbers))
            entry = _entry(entry, coding, numbers)
            plain += _chunks(tensor, coding, entry)
        entries.append(entry)
    parts = iter(_encode(plain, total, progress))
    chunks: list[bytes] = []
    for number, (tensor, entry) in enumerate(zip(plans, entries, strict=True)):
        if not tensor.subject:
            chunks.append(tensor.data)
            continue
        map_ = next(parts) if entry.classes.cells > 1 else b""
        own = [next(parts) for _ in chunk_counts(entry.shape, entry.chunk_log2)]
        entries[number] = replace(entry, map_bytes=len(map_), chunk_bytes=tuple(map(len, own)))
        chunks += [map_, *own]
    return b"".join(map(write_table, numbers)), entries, b"".join(chunks)


def _entry(entry: Entry, coding: Coding, numbers: dict[Table, int]) -> Entry:
    return replace(
        entry,
        chunk_log2=_chunk_log2(coding, entry),
        classes=coding.classes,
        map_table=numbers[coding.map_table] if coding.map_table else 0,
        tables=tuple(numbers[table] for table in coding.tables),
    )


def _chunk_log2(coding: Coding, entry: Entry) -> int:
    """Returns log2 of the smallest limit at which states are a small fraction of a chunk."""
    enough = (
        MAX_LANES * coding.tables[0].bits / STATES_FRACTION * entry.weights / max(coding.bits, 1)
    )
    log2 = (math.ceil(min(enough, entry.weights)) - 1).bit_length()
    if coding.classes.axis == Axis.NEIGHBOURS:
        log2 = max(log2, (math.prod(entry.shape[1:]) - 1).bit_length())
    return min(max(log2, MIN_CHUNK_LOG2), MAX_CHUNK_LOG2)


def _chunks(tensor: TensorPlan, coding: Coding, entry: Entry) -> list[PlainChunk]:
    """Returns the chunk of the map, if there is one, and those of the weights."""
    assert tensor.subject
    ends = np.cumsum(chunk_counts(entry.shape, entry.chunk_log2))[:-1]
    codes = np.split(tensor.subject.codes, ends)
    cells = [None] * len(codes) if coding.cells is None else np.split(coding.cells, ends)
    chunks = [
        PlainChunk(part, coding.tables, cell) for part, cell in zip(codes, cells, strict=True)
    ]
    if coding.map_table:
        chunks.insert(
            0,
            PlainChunk(
                np.concatenate([coding.maps.rows, coding.maps.seconds]), (coding.map_table,)
            ),
        )
    return chunks


def _encode(plain: Sequence[PlainChunk], total: int, progress: Progress | None) -> list[bytes]:
    coded = [b""] * len(plain)
    done = 0
    for chunk, data in encode_chunks(plain):
        coded[chunk] = data
        done += plain[chunk].codes.nbytes
        if progress:
            progress(min(done, total), total)
    return coded
