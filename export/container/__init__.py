"""The `.tqw` container: a `.tflite` with its weights entropy-coded, restored byte for byte.

SPEC.md describes the bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
