"""What an operator is called with: itself, its tensors, and the runtime to imitate."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfqreg.errors import ModelError

from ..ir import Op, Quantization, Tensor
from .arithmetic import activation_bounds, clamp_int8

# LiteRT's default on x86-64 and on arm64, TensorFlow's default (an older XNNPACK), the reference
# kernels of tflite-runtime, those of TensorFlow Lite for Microcontrollers, and the newer ones of
# LiteRT and TensorFlow.
MODES = ("f32", "arm64", "f32-tf", "ref", "ref-micro", "ref-new")


@dataclass(frozen=True)
class Call:
    """One operator with its tensors; `mode` is one of `MODES`."""

    op: Op
    inputs: tuple[Tensor, ...]
    output: Tensor
    mode: str

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the operator; without a default it must be there (KeyError)."""
        return (
            self.op.attributes[name] if default is None else self.op.attributes.get(name, default)
        )

    def source(self, position: int = 0) -> Quantization:
        """The quantization of an input."""
        return _quantization(self.op, self.inputs[position])

    @property
    def target(self) -> Quantization:
        """The quantization of the output."""
        return _quantization(self.op, self.output)

    @property
    def reference(self) -> bool:
        """Whether to imitate the reference kernels; if not, XNNPACK runs what it accepts."""
        return self.mode.startswith("ref")

    def clamp(self, x: np.ndarray, xnnpack: bool = True) -> np.ndarray:
        """Clips to what the fused activation leaves of int8, and stores as int8.

        `xnnpack=False` marks the operators that no runtime hands to XNNPACK.
        """
        activation = self.attribute("activation", "NONE")
        return clamp_int8(
            x, activation_bounds(activation, self.target, xnnpack and not self.reference)
        )


def _quantization(op: Op, tensor: Tensor) -> Quantization:
    if tensor.quantization is None:
        raise ModelError(f"{op.kind} {op.outputs}", f"tensor {tensor.name!r} needs a quantization")
    return tensor.quantization
