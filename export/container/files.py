"""`pack_file` and `unpack_file`: whole files, replaced at once or not at all."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .decoder.unpack import unpack
from .encoder.pack import pack
from .format.errors import ContainerError
from .format.limits import DEFAULT_LIMITS, Limits, Progress


def pack_file(
    source: str | Path,
    target: str | Path,
    progress: Progress | None = None,
    base: str | Path | None = None,
) -> int:
    """Packs the `.tflite` at `source` into a `.tqw` at `target`; returns its size in bytes.

    Args:
        source, target: paths. `target` appears whole or not at all, and is replaced if it exists.
        progress: called with the input bytes coded and their total, for example a tqdm bar's.
            Default none.
        base: path of a `.tflite` or `.tqw` that the receiver has: `target` then holds what changed.
            Default none.

    Raises:
        ContainerError: `source` is not a `.tflite`; OSError: a file cannot be read or written.

    Example:
        >>> pack_file("m.tflite", "m.tqw") == Path("m.tqw").stat().st_size
        True
    """
    return _convert(source, target, lambda data: pack(data, progress, _read(base)))


def unpack_file(
    source: str | Path,
    target: str | Path,
    limits: Limits = DEFAULT_LIMITS,
    progress: Progress | None = None,
    base: str | Path | None = None,
) -> int:
    """Unpacks the `.tqw` at `source` into a `.tflite` at `target`; returns its size in bytes.

    Args:
        source, target: paths. `target` appears whole or not at all, and is replaced if it exists.
        limits: sizes to refuse. Default 2 GiB of output and 65,536 tensors.
        progress: called with the output bytes finished and their total. Default none.
        base: path of the `.tflite` or `.tqw` that a delta builds on. Default none.

    Raises:
        ContainerError: `source` is damaged, over the limits or a delta to another file.
        OSError: a file cannot be read or written.

    Example:
        >>> unpack_file("m.tqw", "m.tflite") == Path("m.tflite").stat().st_size
        True
    """
    return _convert(source, target, lambda data: unpack(data, limits, progress, _read(base)))


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _convert(source: str | Path, target: str | Path, convert: Callable[[bytes], bytes]) -> int:
    data = Path(source).read_bytes()
    try:
        result = convert(data)
    except ContainerError as error:
        raise ContainerError(f"{source}: {error}") from error
    write_atomically(Path(target), result)
    return len(result)


def write_atomically(target: Path, data: bytes) -> None:
    """Writes a file whole or not at all: `data` beside `target`, to the disk, then renamed."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
