"""Weight quantizers, one file a method."""

from tfqreg.quantizers.base import Quantizer
from tfqreg.quantizers.dorefa import DoReFa
from tfqreg.quantizers.learned_bits import LearnedBits
from tfqreg.quantizers.uniform import Uniform
from tfqreg.quantizers.wrpn import WRPN

__all__ = ["WRPN", "DoReFa", "LearnedBits", "Quantizer", "Uniform"]
