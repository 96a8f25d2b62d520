"""Regularizers with learned coefficients and bits, one file a method."""

from tfqreg.regularizers.coefficient import LearnedPenalty
from tfqreg.regularizers.dampening import Dampening
from tfqreg.regularizers.learned_bits import SinAReQ
from tfqreg.regularizers.msqe import MSQE
from tfqreg.regularizers.penalty import Penalty, Pruning
from tfqreg.regularizers.qsin import QSin
from tfqreg.regularizers.rate import Rate
from tfqreg.regularizers.sinusoidal import SinReQ

__all__ = [
    "MSQE",
    "Dampening",
    "LearnedPenalty",
    "Penalty",
    "Pruning",
    "QSin",
    "Rate",
    "SinAReQ",
    "SinReQ",
]
