"""The weight wrapper and the activation quantizer."""

from tfqreg.layers.activation import QuantizedActivation
from tfqreg.layers.quantized import Quantized
from tfqreg.layers.unit_range import UnitRange

__all__ = ["Quantized", "QuantizedActivation", "UnitRange"]
