"""Callbacks, one file each."""

from tfqreg.callbacks.alq import ALQRounds
from tfqreg.callbacks.bits_budget import BitsBudget
from tfqreg.callbacks.incremental import Incremental
from tfqreg.callbacks.monitor import Monitor, kernel_figures
from tfqreg.callbacks.needed import callbacks_for
from tfqreg.callbacks.size_budget import SizeBudget
from tfqreg.callbacks.stages import Stages
from tfqreg.callbacks.stop import StopWhenSettled

__all__ = [
    "ALQRounds",
    "BitsBudget",
    "Incremental",
    "Monitor",
    "SizeBudget",
    "Stages",
    "StopWhenSettled",
    "callbacks_for",
    "kernel_figures",
]
