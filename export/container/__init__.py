"""The `.tqw` container: a `.tflite` with its weights entropy-coded, restored byte for byte. See
SPEC.md.
"""

from .decoder.unpack import unpack
from .encoder.pack import pack
from .files import pack_file, unpack_file
from .format.errors import ContainerError
from .format.limits import Limits
from .inspection.account import format_account
from .inspection.info import ContainerInfo, SpanInfo, TensorInfo, inspect

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
