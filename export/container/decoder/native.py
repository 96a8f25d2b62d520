"""The C decoder of export/device, where a compiler was there when tfqreg was installed."""

import os
from collections.abc import Callable

from ..format.limits import Limits

try:
    from .. import _tqw  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:
    _tqw = None


def decoder() -> str:
    """Returns which decoder `unpack` uses: "c", or "numpy" where C is not there or
    TFQREG_DECODER=numpy is set.

    >>> decoder() in ("c", "numpy")
    True
    """
    return "c" if _tqw and os.environ.get("TFQREG_DECODER") != "numpy" else "numpy"


def decode(
    container: bytes | memoryview,
    limits: Limits,
    progress: Callable[[int, int], None] | None,
    base: bytes | None,
) -> bytes | None:
    """Returns the `.tflite`, or None where numpy has to decode, be it only to say what is wrong
    with the container.
    """
    if _tqw is None or decoder() == "numpy":
        return None
    try:
        return _tqw.decode(container, limits.output_bytes, limits.tensors, base, progress)
    except ValueError:
        return None
