"""How a kernel is cut into groups of weights that share their coordinates."""

import math
from dataclasses import dataclass
from typing import Any

from keras import ops

from tfqreg.errors import ModelError

STRUCTURES = ("auto", "channelwise", "kernelwise", "pixelwise", "subchannel")
# The signs of a base of fewer weights take less than half the 32 bits of its coordinate.
SMALLEST_GROUP = 16
# The largest parts of the paper's dense layers: 8192 inputs in 16 parts, 1024 in 2.
LARGEST_PART = 512


@dataclass(frozen=True)
class WeightGroups:
    """A kernel as (channels, parts, size): `parts` groups of `size` weights per output channel.

    Args:
        shape: of the kernel.
        order: permutation that brings the kernel's axes into that order before the reshape.
        channels: output channels.
        parts: groups per output channel.
        size: weights per group.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    channels: int
    parts: int
    size: int

    def split(self, w: Any) -> Any:
        """Returns a kernel's weights as (channels, parts, size)."""
        return ops.reshape(ops.transpose(w, self.order), (self.channels, self.parts, self.size))

    def join(self, groups: Any) -> Any:
        """Returns the weights of (channels, parts, size) in the kernel's shape."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return ops.transpose(
            ops.reshape(groups, [self.shape[axis] for axis in self.order]), inverse
        )


def groups_of(
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    structure: str = "auto",
    subchannels: int | None = None,
) -> WeightGroups:
    """Returns how a kernel is cut.

    | structure | a group is | weights in a group |
    |---|---|---|
    | channelwise | all weights of an output channel | all |
    | kernelwise | one filter kernel: an input channel of an output channel | height x width |
    | pixelwise | one position of an output channel's filter | input channels |
    | subchannel | one of equal, contiguous parts of an output channel | all / subchannels |

    "auto" takes the larger of kernelwise and pixelwise if that has 16 weights or more, else
    channelwise; for dense layers and convolutions 1x1 the fewest parts of at most 512 weights.

    Args:
        shape: of the kernel.
        axes: its output-channel axes.
        structure: one of the table, or "auto", the default.
        subchannels: parts of an output channel; the fewest of at most 512 weights by default.

    Raises:
        ModelError: for parts that do not divide the channel, and groups of a single weight.

    Example:
        >>> groups_of((5, 5, 20, 50), (3,)).parts, groups_of((800, 500), (1,)).size
        (20, 400)

    Reference: Qu et al. 2020, arXiv 1912.08883, section 4.1.
    """
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    spatial = [axis for axis in rest if axis < len(shape) - 2]
    inputs = [axis for axis in rest if axis not in spatial]
    positions, depth = (math.prod(shape[axis] for axis in part) for part in (spatial, inputs))
    weights = positions * depth
    if structure == "auto":
        structure = _best_structure(positions, depth)
    if structure == "kernelwise":
        rest = inputs + spatial
    fewest = next(
        n for n in range(1, weights + 1) if weights % n == 0 and weights // n <= LARGEST_PART
    )
    parts = (
        {"channelwise": 1, "kernelwise": depth, "pixelwise": positions}.get(structure)
        or subchannels
        or fewest
    )
    if weights % parts:
        raise ModelError(
            "",
            f"an output channel of {weights} weights does not fall into equal parts",
            f"Choose a divisor of {weights} for `subchannels`",
            f"subchannels={parts}, kernel shape={shape}",
        )
    if parts == weights > 1:
        raise ModelError(
            "",
            "a group would hold a single weight",
            'Take structure="channelwise" or "auto"',
            f"structure={structure!r}, kernel shape={shape}",
        )
    channels = math.prod(shape[axis] for axis in axes)
    return WeightGroups(tuple(shape), (*axes, *rest), channels, parts, weights // parts)


def _best_structure(positions: int, depth: int) -> str:
    if positions == 1:
        return "subchannel"
    if max(positions, depth) < SMALLEST_GROUP:
        return "channelwise"
    return "kernelwise" if positions >= depth else "pixelwise"
