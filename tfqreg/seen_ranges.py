"""What calibration data looked like to each activation quantizer, and warnings of plain mistakes.

A constant tensor, a branch or an input's column that its grid is too coarse for, and data whose
halves are unlike: each loses values in silence, for the file and its simulator agree.
"""

import warnings
from collections import defaultdict
from typing import Any

import numpy as np

from tfqreg.errors import ModelError, ModelTypeError, listed
from tfqreg.graph.flat import flatten
from tfqreg.layers import ActivationQuantizer

# 0 to 3 quarters of a channel's range: fewer steps than that hold no values any more.
FEW_STEPS = 4
# Of the ranges of two halves of the data; those of a shuffled set differ by a tenth.
UNLIKE = 2.0
_SHOWN = 6  # columns named


class SeenRanges:
    """The lowest and highest values of every channel, by quantizer and call.

    Args:
        model: the model with the quantizers.
    """

    def __init__(self, model: Any) -> None:
        try:
            inputs = flatten(model).inputs
        except ModelTypeError:
            inputs = []  # a subclassed model has no graph that names them
        self.inputs = {node.operation for edge in inputs for node in edge.consumers}
        self.calls: dict[ActivationQuantizer, int] = {}
        self.ranges: dict[tuple[ActivationQuantizer, int], np.ndarray] = {}
        self.batches: dict[ActivationQuantizer, list[tuple[float, float]]] = defaultdict(list)

    def start_batch(self) -> None:
        """Begins to count each quantizer's calls anew."""
        self.calls = {}

    def note(self, layer: ActivationQuantizer, x: np.ndarray) -> None:
        """Adds what one call of a quantizer got, channels last."""
        call = self.calls[layer] = self.calls.get(layer, -1) + 1
        rows = x.reshape(-1, x.shape[-1])
        found = np.stack([rows.min(0), rows.max(0)])
        before = self.ranges.get((layer, call), found)
        self.ranges[layer, call] = np.stack(
            [np.minimum(before[0], found[0]), np.maximum(before[1], found[1])]
        )
        if layer in self.inputs and call == 0:
            self.batches[layer].append((float(found[0].min()), float(found[1].max())))

    def warn(self) -> None:
        """Warns of what the grids, which are set now, cannot hold."""
        shared = {layer for layer, call in self.ranges if call > 0}
        for (layer, _), (low, high) in self.ranges.items():
            try:
                scale = layer.encode()[0]
            except ModelError:  # levels on no integer grid
                continue
            message = _mistake(low, high, scale, layer in self.inputs, layer in shared)
            if message:
                warnings.warn(f"{layer.name}: {message}", stacklevel=3)
        for layer, found in self.batches.items():
            if _unlike(found):
                warnings.warn(
                    f"{layer.name}: the first half of the calibration data has other ranges than "
                    "the second. Shuffle it, and give more",
                    stacklevel=3,
                )


def _mistake(
    low: np.ndarray, high: np.ndarray, scale: float, is_input: bool, is_shared: bool
) -> str:
    """Returns what is wrong with one call's ranges (channels,), in words; empty if nothing is."""
    if is_input and low.min() == high.max():
        return (
            f"calibration saw one value only, {low.min():g}, so its range is unknown. Give data "
            "like what the model will get"
        )
    moving = high > low
    few = np.flatnonzero(moving & ((high - low) / scale < FEW_STEPS))
    if is_input and few.size:
        return (
            f"{few.size} of {low.size} columns ({listed(few, _SHOWN)}) are lost: one grid holds "
            f"all, and its step is {scale:.3g}. Normalize them before the model, or give each "
            "range its own input"
        )
    if is_shared and moving.any() and (high.max() - low.min()) / scale < FEW_STEPS:
        return (
            f"a branch from {low.min():.3g} to {high.max():.3g} is lost: it is joined with larger "
            f"values on one grid, whose step is {scale:.3g}. Return the branches as separate "
            "outputs, or bring them to one range first"
        )
    return ""


def _unlike(found: list[tuple[float, float]]) -> bool:
    """Whether the ranges of the two halves of the batches differ by a factor."""
    if len(found) < 2:
        return False
    halves = np.array_split(np.array(found), 2)
    widths = [float(part[:, 1].max() - part[:, 0].min()) for part in halves]
    return max(widths) > UNLIKE * min(widths)
