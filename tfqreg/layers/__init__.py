"""The weight wrapper and the activation quantizers."""

from tfqreg.layers.activation import QuantizedActivation
from tfqreg.layers.activation_quantizer import ActivationQuantizer
from tfqreg.layers.quantized import Quantized
from tfqreg.layers.ranges import LearnedRange, MultiBitRange, UnitRange

__all__ = [
    "ActivationQuantizer",
    "LearnedRange",
    "MultiBitRange",
    "Quantized",
    "QuantizedActivation",
    "UnitRange",
]
