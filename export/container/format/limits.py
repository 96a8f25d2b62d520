"""What a caller gives a decoder beside the data: the sizes it allows, and whom to report progress.

Limits are checked before anything is allocated.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Called with the bytes done and their total.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """The largest sizes a decoder accepts; a file that declares more raises `ContainerError`.

    Args:
        output_bytes: size of the unpacked `.tflite`, in bytes. Default 2 GiB, the most of a
            flatbuffer.
        tensors: number of coded tensors. Default 65,536.

    >>> Limits(output_bytes=1 << 20).tensors
    65536
    """

    output_bytes: int = 1 << 31
    tensors: int = 1 << 16


DEFAULT_LIMITS = Limits()
