"""Cells: which table codes which weight of a tensor.

Weight j has the cell `row class * second classes + second class`, and a tensor lists a table for
every cell. Row classes belong to the first axis, one class for each output channel. The second
class is one of

    COLUMNS     map[j mod columns], columns being the last dimension: input channels, or the
                channels of a depthwise convolution
    NEIGHBOURS  map[5 * category(upper) + category(left)]: the elements of the same input channel
                one place up and one to the left in the kernel of a convolution (O, H, W, I);
                category 0 outside of it
    BASE        map[category(element of the base at the same place)], for differences

The category of an element is that of its code v: 0 for 0, then 1 if 0 < v <= threshold, 2 above,
3 if -threshold <= v < 0, 4 below.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import prod

import numpy as np

# Zero, small and large of either sign.
CATEGORIES = 5
# Of rows, and of second classes. With 16, rows saved 3 to 9 % of sparse networks of 4 and 5 bits.
MAX_CLASSES = 16
# Tables that a tensor may list, which the C decoder keeps built.
MAX_CELLS = 64
# Entries of a map, and weights that the C decoder keeps to look back at: they fit its work memory.
MAX_MAPPED = 1 << 16
# The largest magnitude of an 8-bit code.
MAX_THRESHOLD = 127
# Lanes of a chunk: weights that decode side by side may not be each other's neighbours.
MIN_NEIGHBOUR_COLUMNS = 8


class Axis(IntEnum):
    """What the second class of a weight depends on."""

    NONE = 0
    COLUMNS = 1
    NEIGHBOURS = 2
    BASE = 3


@dataclass(frozen=True)
class Classes:
    """How the weights of one tensor are told apart.

    Args:
        rows: number of row classes, 1 for none.
        axis: what the second class depends on.
        seconds: number of second classes, 1 for none.
        threshold: largest magnitude of a small code. Default 0.
    """

    rows: int = 1
    axis: Axis = Axis.NONE
    seconds: int = 1
    threshold: int = 0

    @property
    def cells(self) -> int:
        """Number of tables that the tensor lists."""
        return self.rows * self.seconds

    def mapped(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Returns the entries of the row map and of the second map."""
        second = {
            Axis.NONE: 0,
            Axis.COLUMNS: shape[-1],
            Axis.NEIGHBOURS: CATEGORIES**2,
            Axis.BASE: CATEGORIES,
        }
        return shape[0] if self.rows > 1 else 0, second[self.axis]


def categories(threshold: int, width: int, shift: int) -> np.ndarray:
    """Returns the category of every element of `width` bits (2, 4 or 8), uint8 (2**width,).

    >>> categories(1, 4, 1).tolist()
    [0, 0, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 3, 3]
    """
    elements = np.arange(1 << width)
    codes = (elements - (elements >> (width - 1) << width)) >> shift
    sides = np.where(codes > 0, 1, 3) + (np.abs(codes) > threshold)
    return np.where(codes == 0, 0, sides).astype(np.uint8)


def neighbours(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each weight of a row has a left and an upper neighbour, bool (row,).

    >>> [has.tolist() for has in neighbours((1, 2, 2, 1))]
    [[False, True, False, True], [False, False, True, True]]
    """
    place = np.arange(prod(shape[1:]))
    reach = shape[2] * shape[3]
    return place % reach >= shape[3], place >= reach


def code_categories(threshold: int, width: int, shift: int) -> np.ndarray:
    """Returns the category of every code, by its low 8 bits, uint8 (256,).

    Arguments as for `categories`.
    """
    return categories(threshold, width, shift)[(np.arange(256) << shift) & ((1 << width) - 1)]


@dataclass(frozen=True)
class Maps:
    """The transmitted maps.

    Args:
        rows: the class of every row, uint8 (O,).
        seconds: the second classes, uint8 (entries,).
    """

    rows: np.ndarray
    seconds: np.ndarray


def row_and_second_cells(
    classes: Classes, shape: tuple[int, ...], maps: Maps, contexts: np.ndarray | None = None
) -> np.ndarray | None:
    """Returns the cell of every weight, uint8 (weights,), or None if all are 0.

    Args:
        classes: of the tensor.
        shape: its dimensions.
        maps: its maps.
        contexts: what the second map is to be read at, (weights,), for NEIGHBOURS and BASE. Without
            it their second classes are left out. Default none.

    >>> maps = Maps(np.array([0, 1], np.uint8), np.array([1, 0, 0], np.uint8))
    >>> row_and_second_cells(Classes(2, Axis.COLUMNS, 2), (2, 3), maps).tolist()
    [1, 0, 0, 3, 2, 2]
    """
    row = prod(shape[1:])
    cells = np.zeros((shape[0], row), np.uint8)
    if classes.rows > 1:
        cells += (maps.rows * classes.seconds).astype(np.uint8)[:, None]
    if classes.axis == Axis.COLUMNS:
        seconds = maps.seconds.astype(np.uint8)
        cells += np.tile(seconds, row // shape[-1]) if len(shape) > 1 else seconds[:, None]
    elif contexts is not None:
        cells += maps.seconds.astype(np.uint8)[contexts].reshape(cells.shape)
    elif classes.rows == 1:
        return None
    return cells.ravel()


def neighbour_contexts(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns `5 * category(upper) + category(left)` of every weight, uint8 (weights,).

    Args:
        found: the category of every weight.
        shape: of the tensor, (O, H, W, I).

    >>> neighbour_contexts(np.array([1, 2, 3, 4], np.uint8), (1, 2, 2, 1)).tolist()
    [0, 1, 5, 13]
    """
    grid = found.reshape(shape)
    contexts = np.zeros(shape, np.uint8)
    contexts[:, :, 1:] += grid[:, :, :-1]
    contexts[:, 1:] += np.uint8(CATEGORIES) * grid[:, :-1]
    return contexts.ravel()
