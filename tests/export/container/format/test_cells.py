"""Categories of neighbours, by hand."""

import numpy as np

from tfqreg.export.container.format.cells import categories, neighbour_contexts


def test_neighbours_by_hand() -> None:
    """Of two by two places, the lower right one sees the upper and the left one."""
    codes = np.array([[[[5] * 8, [0] * 8], [[-1] * 8, [2] * 8]]])
    found = categories(1, 8, 0)[codes.ravel() & 255]
    contexts = neighbour_contexts(found, codes.shape).reshape(codes.shape)[0, :, :, 0]
    assert contexts.tolist() == [[0, 2], [10, 5 * 0 + 3]]
