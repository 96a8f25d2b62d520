"""Regularizers with learned coefficients and bits, one file a method."""

from tfqreg.regularizers.coefficient import LearnedPenalty
from tfqreg.regularizers.msqe import MSQE
from tfqreg.regularizers.partial_l2 import PartialL2
from tfqreg.regularizers.penalty import Penalty, Pruning
from tfqreg.regularizers.sinusoidal import SinAReQ, SinReQ

__all__ = ["MSQE", "LearnedPenalty", "PartialL2", "Penalty", "Pruning", "SinAReQ", "SinReQ"]
