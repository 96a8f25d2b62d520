"""Sparsity as a function of training: plain callables."""

from collections.abc import Callable
from typing import Any


def cubic(progress: float) -> float:
    """Returns `1 - (1 - t)^3`: fast while many weights are idle, slow near the end.

    Args:
        progress: share of the ramp that is over, t; values outside [0, 1] count as its ends.

    Example:
        >>> cubic(0.0), cubic(0.5), cubic(2.0)
        (0.0, 0.875, 1.0)

    Reference: Zhu and Gupta 2017, arXiv 1710.01878, equation 1.
    """
    return 1.0 - (1.0 - min(max(progress, 0.0), 1.0)) ** 3


def sparsity_at(schedule: Callable[[Any], Any], step: int) -> tuple[bool, float]:
    """Returns whether a schedule asks for an update at a step, and the sparsity it stands at.

    Args:
        schedule: a callable of the step that returns a share, or a (should_prune, share) pair as
            the schedules of TensorFlow Model Optimization do.
        step: training step.

    Raises:
        ValueError: for a share outside [0, 1).

    Example:
        >>> sparsity_at(lambda step: 0.5, 4), sparsity_at(lambda step: (step % 2 == 0, 0.5), 3)
        ((True, 0.5), (False, 0.5))
    """
    value = schedule(step)
    due, share = value if isinstance(value, tuple) else (True, value)
    share = float(share)
    if not 0.0 <= share < 1.0:
        raise ValueError(
            "The sparsity schedule must return a share of the weights, 0 <= sparsity < 1. "
            f"Received: {share} at step {step}"
        )
    return bool(due), share
