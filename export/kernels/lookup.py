"""The operators of a table that is a constant: CAST to an index, and GATHER."""

import numpy as np

from .call import Call


def cast(call: Call, x: np.ndarray) -> np.ndarray:
    """The codes as integers of the output's dtype."""
    return x.astype(call.output.dtype)


def gather(call: Call, table: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The elements of `table` along `axis` at the positions."""
    return np.take(table, positions, call.attribute("axis"))
