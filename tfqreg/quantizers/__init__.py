"""Weight quantizers, one file a method."""

from tfqreg.quantizers.base import Quantizer
from tfqreg.quantizers.dorefa import DoReFa
from tfqreg.quantizers.focused import Focused
from tfqreg.quantizers.learned_bits import LearnedBits
from tfqreg.quantizers.multibit import MultiBit
from tfqreg.quantizers.power_of_two import PowerOfTwo
from tfqreg.quantizers.uniform import Uniform
from tfqreg.quantizers.wrpn import WRPN

__all__ = [
    "WRPN",
    "DoReFa",
    "Focused",
    "LearnedBits",
    "MultiBit",
    "PowerOfTwo",
    "Quantizer",
    "Uniform",
]
