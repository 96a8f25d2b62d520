"""The operators that move elements and compute nothing: CONCATENATION, PAD, RESHAPE."""

import numpy as np

from .call import Call


def concatenation(call: Call, *parts: np.ndarray) -> np.ndarray:
    """Joins along `axis`; all quantizations are equal."""
    return np.concatenate(parts, call.attribute("axis"))


def pad(call: Call, x: np.ndarray, paddings: np.ndarray) -> np.ndarray:
    """Adds (before, after) elements per axis, holding the zero point."""
    return np.pad(x, paddings, constant_values=call.target.zero_point)


def reshape(call: Call, x: np.ndarray) -> np.ndarray:
    """Keeps the batch, reshapes the rest."""
    return x.reshape(len(x), *call.output.shape[1:])
