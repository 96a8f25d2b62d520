"""Files for the command line: read, checked and written, with errors that fit in one line."""

import errno
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_LONGEST_REASON = 400  # characters: a few lines of a terminal; Keras' errors can fill pages
_REMEDIES = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Choose a path you may use, or change its permissions.",
    errno.ENOSPC: "Free some space, or write elsewhere.",
    errno.EISDIR: "Give a file.",
}


class UserError(Exception):
    """What a user can put right; its text names the file, what was received, and the remedy."""


def read(path: Path, *kinds: str) -> bytes:
    """Returns a file's bytes.

    Args:
        path: the file.
        kinds: what it may be: "keras", "tflite", "tqw"; anything by default.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    with about(path):
        # A device or a pipe may never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(
                f"{path}: this is no regular file. Copy its contents into one. Received: "
                f"{_kind_of_special(path)}"
            )
        data = path.read_bytes()
    found = kind_of(data)
    if kinds and found not in kinds:
        received = f"a .{found}" if found else f"{len(data):,} bytes starting {data[:8]!r}"
        wanted = " or ".join(f".{kind}" for kind in kinds)
        raise UserError(f"{path}: this is no {wanted} file. Give one. Received: {received}")
    return data


def _kind_of_special(path: Path) -> str:
    kinds = {"a pipe": path.is_fifo(), "a socket": path.is_socket()}
    return next((name for name, holds in kinds.items() if holds), "a device")


def kind_of(data: bytes) -> str | None:
    """Returns "keras", "tflite" or "tqw" by a file's first bytes, None for anything else."""
    from ..container.format.sections import MAGIC
    from ..container.tflite.locate import IDENTIFIER

    marks = {"keras": (0, b"PK\x03\x04"), "tflite": (4, IDENTIFIER), "tqw": (0, MAGIC)}
    return next(
        (kind for kind, (at, mark) in marks.items() if data[at : at + len(mark)] == mark), None
    )


def load_model(path: Path, quantized: bool = True) -> Any:
    """Returns the model of a `.keras`.

    Args:
        path: the file.
        quantized: whether a model without quantizers is refused.

    Raises:
        UserError: it is no `.keras`, is damaged, or is not quantized.
    """
    read(path, "keras")
    with bar("Loading Keras", total=2) as progress:
        with quiet():
            import keras

            # Before the model, whose classes this registers.
            from tfqreg.layers.queries import quantized_layers

        progress.set_description(f"Loading {path.name}")
        progress.update()
        try:
            model = keras.models.load_model(path, compile=False)
        # A damaged file surfaces as whatever zipfile, json, h5py or a layer makes of it.
        except Exception as error:
            if lambdas := lambda_layers(path):
                raise UserError(
                    f"{path}: {', '.join(lambdas)}: Lambda has no integer form, and Keras loads "
                    "none from a file. Replace it by a layer of Keras, and save the model again. "
                    "Received: Lambda"
                ) from error
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
            raise UserError(
                f"{path}: Keras cannot load it. Save the model again. Received: {reason}"
            ) from error
    if quantized and not quantized_layers(model):
        raise UserError(
            f"{path}: the model is not quantized. Wrap it with tfqreg.quantize(model), calibrate "
            "it first with tfqreg.calibrate(model, data) or train it, and save that. Received: "
            f"{type(model).__name__} {model.name!r} with float layers"
        )
    return model


def lambda_layers(path: Path) -> list[str]:
    """Returns the paths of the Lambda layers in a `.keras`, none for a damaged file."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        return [name.partition("/")[2] for name in _lambdas(config, "")]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile):
        return []


def _lambdas(config: dict[str, Any], prefix: str) -> list[str]:
    inner = config.get("config")
    if not isinstance(inner, dict):
        return []
    name = prefix + inner.get("name", "")
    if config.get("class_name") == "Lambda":
        return [name]
    return [found for layer in inner.get("layers", ()) for found in _lambdas(layer, f"{name}/")]


def load_samples(path: Path) -> "dict[str, np.ndarray] | np.ndarray":
    """Returns the array of an `.npy`, or the arrays by name of an `.npz`.

    Raises:
        UserError: it holds anything but numbers, or no sample.
    """
    import numpy as np

    read(path)
    remedy = (
        "Save numbers of shape (samples, ...) with numpy.save, or numpy.savez for several inputs."
    )
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            samples = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    # No arrays, or cut off: numpy, zipfile and zlib each have errors of their own.
    except Exception as error:
        raise UserError(f"{path}: it holds no samples. {remedy} Received: {error}") from error
    for array in [samples] if isinstance(samples, np.ndarray) else samples.values():
        if array.dtype.kind not in "fiu" or not array.ndim or not len(array):
            received = f"{array.dtype} of shape {array.shape}"
            raise UserError(f"{path}: it holds no samples. {remedy} Received: {received}")
    return samples


def check_targets(source: Path, *targets: Path) -> None:
    """Refuses, before any work, what could not be written or would overwrite the input."""
    for target in targets:
        with writing(target):
            if not target.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}")
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if target.exists() and not target.is_file():
                raise OSError(errno.EINVAL, f"it is {_kind_of_special(target)}")
            if not os.access(target.parent, os.W_OK):
                raise PermissionError(errno.EACCES, "no permission")
    if len({path.resolve() for path in (source, *targets)}) <= len(targets):
        raise UserError(
            f"{source}: the files to read and to write must differ. Received: "
            f"{', '.join(map(str, targets))}"
        )


def write(target: Path, data: bytes) -> None:
    """Writes a whole file or nothing; raises UserError if that fails."""
    from ..container.files import write_atomically

    with writing(target):
        write_atomically(target, data)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Makes an OSError one about the file to write."""
    try:
        yield
    except OSError as error:
        raise _one_line(f"{target}: cannot be written", error) from error


@contextmanager
def about(*paths: str | Path) -> Iterator[None]:
    """Makes whatever is wrong with files an error that names them."""
    names = " with ".join(map(str, paths))
    try:
        yield
    except OSError as error:
        raise _one_line(f"{names}: cannot be read", error) from error
    except (TypeError, ValueError, RuntimeError) as error:
        named = str(error).startswith(tuple(f"{path}: " for path in paths))
        raise UserError(str(error) if named else f"{names}: {error}") from error


def _one_line(what: str, error: OSError) -> UserError:
    remedy = _REMEDIES.get(error.errno or 0, "Choose another path.")
    return UserError(f"{what}: {(error.strerror or str(error)).lower()}. {remedy}")


@contextmanager
def extra() -> Iterator[None]:
    """Makes an extra that is not installed an error that a user can put right."""
    try:
        yield
    except ImportError as error:
        raise UserError(str(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what native code prints on stderr.

    TensorFlow logs before any level of logging applies.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def bar(description: str, **options: Any) -> Any:
    """Returns a tqdm progress bar, shown on terminals alone and gone when it is done."""
    from tqdm import tqdm

    return tqdm(desc=description, leave=False, disable=None, **options)
