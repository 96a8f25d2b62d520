"""The bytes that ship, for callbacks that train against them."""

import keras

from .container import pack
from .flatbuffer.write import write_tflite
from .model import exported_graph


def container_size(model: keras.Model, scale_dtype: str = "bfloat16") -> int:
    """Returns the bytes of the container that `export_tflite` would write; no file is written.

    Args:
        model: a quantized model whose activation scales are set.
        scale_dtype: as of `export_tflite`; "bfloat16" by default.

    Raises:
        TypeError, ValueError: as `export_tflite`.
    """
    return len(pack(write_tflite(exported_graph(model, scale_dtype=scale_dtype))))
