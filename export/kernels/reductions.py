"""The operators that pick one element of many: REDUCE_MAX, REDUCE_MIN, ARG_MAX."""

import numpy as np

from .call import Call


def reduce_max(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The largest code over `axes`."""
    return x.max(_over(axes), keepdims=call.attribute("keep_dims"))


def reduce_min(call: Call, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The smallest code over `axes`."""
    return x.min(_over(axes), keepdims=call.attribute("keep_dims"))


def arg_max(call: Call, x: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The position of the largest code along an axis, int32; of equal ones the first."""
    del call
    return x.argmax(int(axis.item())).astype(np.int32)


def _over(axes: np.ndarray) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.ravel(axes))
