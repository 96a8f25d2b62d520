"""Sparsity as a function of training: plain callables."""

from collections.abc import Callable
from typing import Any

from tfqreg.errors import ModelError


def cubic(progress: float) -> float:
    """Returns `1 - (1 - t)^3`: fast while many weights are idle, slow near the end.

    Args:
        progress: fraction of the ramp that is over, t; values outside [0, 1] count as its ends.

    Example:
        >>> cubic(0.0), cubic(0.5), cubic(2.0)
        (0.0, 0.875, 1.0)

    Reference: Zhu and Gupta 2017, arXiv 1710.01878, equation 1.
    """
    return 1.0 - (1.0 - min(max(progress, 0.0), 1.0)) ** 3


def check_sparsity(sparsity: float, owner: str) -> float:
    """Returns `sparsity` as a float; raises ModelError if it is no fraction below 1."""
    if not 0.0 <= sparsity < 1.0:
        raise ModelError(
            owner,
            "`sparsity` is a fraction of the weights, 0 <= sparsity < 1",
            received=f"sparsity={sparsity!r}",
        )
    return float(sparsity)


def sparsity_at(schedule: Callable[[Any], Any], step: int) -> tuple[bool, float]:
    """Returns whether a schedule asks for an update at a step, and the sparsity it stands at.

    Args:
        schedule: a callable of the step that returns a fraction of the weights, or a (should_prune,
            fraction) pair as the schedules of TensorFlow Model Optimization do.
        step: training step.

    Raises:
        ModelError: for a fraction outside [0, 1).

    Example:
        >>> sparsity_at(lambda step: 0.5, 4), sparsity_at(lambda step: (step % 2 == 0, 0.5), 3)
        ((True, 0.5), (False, 0.5))
    """
    value = schedule(step)
    due, fraction = value if isinstance(value, tuple) else (True, value)
    fraction = float(fraction)
    if not 0.0 <= fraction < 1.0:
        raise ModelError(
            "",
            "The sparsity schedule must return a fraction of the weights, 0 <= sparsity < 1",
            received=f"{fraction} at step {step}",
        )
    return bool(due), fraction
