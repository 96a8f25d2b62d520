"""From a quantized Keras model to a phone: integer graph, `.tflite`, container, and the proof that they agree."""

from tfqreg import IS_COMMAND

from .container import ContainerError, inspect, pack, pack_file, unpack, unpack_file
from .finding import Finding

if not IS_COMMAND:
    from .check import check
    from .integer_model import integer_model
    from .lower import lower
    from .model import export_tflite, verify
    from .simulate import simulate
    from .size import container_size
    from .tflite import kernel_exponents, write_tflite
    from .verify import Report

__all__ = [
    "ContainerError",
    "Finding",
    "Report",
    "check",
    "container_size",
    "export_tflite",
    "inspect",
    "integer_model",
    "kernel_exponents",
    "lower",
    "pack",
    "pack_file",
    "simulate",
    "unpack",
    "unpack_file",
    "verify",
    "write_tflite",
]
