"""Weight quantizers, one file a method."""

from tfqreg.quantizers.base import Quantizer
from tfqreg.quantizers.uniform import Uniform

__all__ = ["Quantizer", "Uniform"]
