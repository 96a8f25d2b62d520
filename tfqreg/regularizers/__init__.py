"""Regularizers with learned coefficients, one file a method."""

from tfqreg.regularizers.coefficient import LearnedPenalty
from tfqreg.regularizers.msqe import MSQE
from tfqreg.regularizers.partial_l2 import PartialL2

__all__ = ["MSQE", "LearnedPenalty", "PartialL2"]
