"""Optimizers, one file each."""

from tfqreg.optimizers.alq import ALQ, Mode

__all__ = ["ALQ", "Mode"]
