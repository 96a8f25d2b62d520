"""The shapes of edges, in which nothing but the batch may be open."""

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Edge


def static_shape(edge: Edge, path: str) -> tuple[int, ...]:
    """Returns an edge's shape with a batch of 1; raises ModelError for another open dimension."""
    if None in edge.shape[1:]:
        raise ModelError(
            path,
            "only the batch dimension may be open",
            "Give keras.Input a full shape",
            str(edge.shape),
        )
    return (1, *(int(n) for n in edge.shape[1:] if n is not None))


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of a tensor as a batch of images.

    (1, length, channels) is a row of pixels.
    """
    if len(shape) == 2:
        return 1, 1, 1, shape[1]
    return 1, int(np.prod(shape[1:-2])), *shape[-2:]
