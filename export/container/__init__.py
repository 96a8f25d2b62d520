"""The `.tqw` container: a `.tflite` with its weights entropy-coded, restored byte for byte. See SPEC.md."""

from .account import format_account
from .decode import unpack
from .encode import pack
from .errors import ContainerError
from .files import pack_file, unpack_file
from .info import ContainerInfo, SpanInfo, TensorInfo, inspect
from .limits import Limits

__all__ = [
    "ContainerError",
    "ContainerInfo",
    "Limits",
    "SpanInfo",
    "TensorInfo",
    "format_account",
    "inspect",
    "pack",
    "pack_file",
    "unpack",
    "unpack_file",
]
