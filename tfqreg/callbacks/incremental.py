"""Quantizes weights in parts, the largest first, and fits the grids anew as the weights move."""

from itertools import takewhile
from typing import Any

import numpy as np
from keras import ops

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.callbacks.stages import PRUNE_UNTIL
from tfqreg.layers.kernel import QuantizedKernel, Stage
from tfqreg.layers.queries import kernel_pairs


class Incremental(Progress):
    """Takes the weights of `PowerOfTwo` and `Focused` kernels onto their grid in growing shares.

    The time between `start` and `until` is split evenly among the shares. At the start of each, and
    1, 3, 7, .. epochs after it, the grid is fitted to the weights as they are: ever more rarely,
    because each fit draws components anew. Weights that are still in float learn freely; those on
    the grid go on learning too, straight through.

    Args:
        shares: of the surviving weights; (0.25, 0.5, 0.75, 0.875, 1) by default.
        start, until: shares of the training; 0.45, or 0 where nothing is pruned, and 0.75 by
            default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ValueError: for shares that do not rise to 1, times out of order, or a `fit` that does not
            know its number of steps.

    Example:
        >>> Incremental(shares=(0.5, 1.0), until=0.9).shares
        (0.5, 1.0)

    Reference: Zhou et al. 2017, arXiv 1702.03044; Zhao, Gao et al. 2019, arXiv 1903.03046, section
    4.
    """

    def __init__(
        self,
        shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.875, 1.0),
        start: float | None = None,
        until: float = 0.75,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(total_steps)
        if not shares or list(shares) != sorted(set(shares)) or shares[0] <= 0 or shares[-1] != 1.0:
            raise ValueError(
                f"Incremental: `shares` must rise from above 0 to 1. Received: shares={shares!r}"
            )
        if not 0.0 <= (start or 0.0) < until <= 1.0:
            raise ValueError(
                f"Incremental: 0 <= start < until <= 1. Received: start={start!r}, until={until!r}"
            )
        self.shares, self.start, self.until = tuple(shares), start, until

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels that are quantized in parts, and the steps at which they are fitted."""
        super().on_train_begin(logs)
        pairs = kernel_pairs(self.model)
        self.pairs: list[tuple[QuantizedKernel, Any]] = [
            pair for pair in pairs if pair[0].float_below is not None
        ]
        start = self.start
        if start is None:
            start = (
                PRUNE_UNTIL if any(kernel.prune is not None for kernel, _ in self.pairs) else 0.0
            )
        starts = np.linspace(start, self.until, len(self.shares) + 1) * self.total
        epoch = max(self.total // max(self.params.get("epochs") or 1, 1), 1)
        self.fits: dict[int, float] = {}  # the share of the weights to be on the grid, by step
        for share, begin, end in zip(self.shares, starts, starts[1:], strict=False):
            within = takewhile(
                lambda step, end=end: step < end,
                (round(begin) + (2**i - 1) * epoch for i in range(32)),
            )
            self.fits.update(dict.fromkeys(within, share))

    def on_step(self, step: int, last: int) -> None:
        """Fits the grids where it is time to."""
        due = [share for at, share in self.fits.items() if last < at <= step]
        if not due:
            return
        sync(self.model)
        for kernel, variable in self.pairs:
            if kernel.float_below is not None and bool(kernel.stage == Stage.QUANTIZE):
                kernel.refit(variable)
                w = np.abs(ops.convert_to_numpy(kernel.surviving(variable)))
                kernel.float_below.assign(
                    np.quantile(w[w > 0], 1.0 - due[-1]) if due[-1] < 1.0 and w.any() else 0.0
                )
