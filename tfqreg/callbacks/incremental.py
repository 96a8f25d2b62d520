"""Quantizes weights in parts, the largest first, and fits the grids anew as the weights move."""

from itertools import count, takewhile
from typing import Any

import numpy as np
from keras import ops

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.callbacks.stages import PRUNE_UNTIL
from tfqreg.errors import ModelError
from tfqreg.layers.kernel import Stage
from tfqreg.layers.queries import kernel_pairs
from tfqreg.pruning.pruned import Pair


class Incremental(Progress):
    """Takes the weights of `PowerOfTwo` and `Focused` kernels onto their grid in growing parts.

    The time between `start` and `until` is split evenly among the parts. At the start of each, and
    1, 3, 7, .. epochs after it, the grid is fitted to the weights as they are: ever more rarely,
    because each fit draws components anew. Weights that are still in float learn freely; those on
    the grid go on learning too, straight through.

    Args:
        shares: fractions of the surviving weights; (0.25, 0.5, 0.75, 0.875, 1) by default.
        start: fraction of the training after which the first part is due; where pruning ends, 0.45,
            or 0 if nothing is pruned, by default.
        until: fraction of the training after which the last part is on its grid; 0.75 by default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ModelError: for shares that do not rise to 1, times out of order, or a `fit` that does not
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
            raise ModelError(
                "Incremental",
                "`shares` must rise from above 0 to 1",
                received=f"shares={shares!r}",
            )
        if not 0.0 <= (start or 0.0) < until <= 1.0:
            raise ModelError(
                "Incremental",
                "0 <= start < until <= 1",
                received=f"start={start!r}, until={until!r}",
            )
        self.shares, self.start, self.until = tuple(shares), start, until

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels that are quantized in parts, and the steps at which they are fitted."""
        super().on_train_begin(logs)
        self.pairs: list[Pair] = [
            (quantized_kernel, weights)
            for quantized_kernel, weights in kernel_pairs(self.model)
            if quantized_kernel.float_below is not None
        ]
        prunes = any(quantized_kernel.prune is not None for quantized_kernel, _ in self.pairs)
        start = self.start
        if start is None:
            start = PRUNE_UNTIL if prunes else 0.0
        starts = np.linspace(start, self.until, len(self.shares) + 1) * self.total
        epoch = max(self.total // max(self.params.get("epochs") or 1, 1), 1)
        self.fits: dict[int, float] = {}  # the fraction of the weights to be on the grid, by step
        for fraction, begin, end in zip(self.shares, starts, starts[1:], strict=False):
            within = takewhile(
                lambda step, end=end: step < end,
                (round(begin) + (2**i - 1) * epoch for i in count()),
            )
            self.fits.update(dict.fromkeys(within, fraction))

    def on_step(self, step: int, last: int) -> None:
        """Fits the grids when it is time to."""
        due = [fraction for at, fraction in self.fits.items() if last < at <= step]
        if not due:
            return
        sync(self.model)
        for quantized_kernel, weights in self.pairs:
            float_below = quantized_kernel.float_below
            if float_below is None or not bool(quantized_kernel.stage == Stage.QUANTIZE):
                continue
            quantized_kernel.refit(weights)
            w = np.abs(ops.convert_to_numpy(quantized_kernel.surviving(weights)))
            in_parts = due[-1] < 1.0 and w.any()
            float_below.assign(np.quantile(w[w > 0], 1.0 - due[-1]) if in_parts else 0.0)
