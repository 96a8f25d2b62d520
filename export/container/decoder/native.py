"""The C decoder of export/device, if a compiler was there when tfqreg was installed."""

import os

from ..format.limits import Limits, Progress

try:
    from .._tqw import decode as c_decode  # pyright: ignore[reportMissingImports]
except ImportError:
    c_decode = None


def decoder() -> str:
    """Returns which decoder `unpack` uses: "c" or "numpy".

    It is numpy if C was not compiled or the environment has TFQREG_DECODER=numpy.

    >>> decoder() in ("c", "numpy")
    True
    """
    return "c" if c_decode and os.environ.get("TFQREG_DECODER") != "numpy" else "numpy"


def decode(
    container: bytes | memoryview,
    limits: Limits,
    progress: Progress | None,
    base: bytes | None,
) -> bytes | None:
    """Returns the `.tflite`, or None if numpy has to decode.

    That is also so for a container that C refuses: numpy then says what is wrong with it and where.
    """
    if c_decode is None or decoder() == "numpy":
        return None
    try:
        return c_decode(container, limits.output_bytes, limits.tensors, base, progress)
    except ValueError:
        return None
