"""The weight wrapper and the activation quantizer."""

from tfqreg.layers.activation import QuantizedActivation
from tfqreg.layers.quantized import Quantized

__all__ = ["Quantized", "QuantizedActivation"]
