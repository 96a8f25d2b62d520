"""The console command `tfqreg`."""

from .commands import main

__all__ = ["main"]
