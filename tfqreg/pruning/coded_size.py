"""About how many bits an entropy coder takes for the codes of a kernel, without running one."""

import numpy as np

CLASSES = 4
BITS_A_TABLE = 48


def entropy_bits(symbols: np.ndarray, cells: np.ndarray) -> float:
    """Returns the bits of `symbols` under one ideal static table for each cell.

    Args:
        symbols, cells: whole numbers of 0 and more, same shape.

    Example:
        >>> entropy_bits(np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]))
        2.0
    """
    width = int(symbols.max()) + 1
    counts = np.bincount(
        (cells * width + symbols).ravel(), minlength=(int(cells.max()) + 1) * width
    )
    counts = counts.reshape(-1, width).astype(np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return float(-(counts * np.log2(np.where(share > 0, share, 1.0))).sum())


def code_bits(codes: np.ndarray) -> float:
    """Returns about the bits that the container takes for a kernel: the least of a few sets of
    contexts.

    One table; tables by classes of outputs; of outputs and inputs; by the two neighbours in the
    window. Classes are told by the share of zeros, and their map is counted.

    Args:
        codes: whole numbers; window first, then inputs, then outputs, as in Keras.
    """
    flat = codes.reshape(-1, *codes.shape[-2:]) if codes.ndim > 2 else codes[None]
    symbols = flat.astype(np.int64) - int(flat.min())
    alive = flat != 0
    outputs = _classes(alive.mean(axis=(0, 1)))
    inputs = _classes(alive.mean(axis=(0, 2)))
    grids = [(np.zeros((1, 1, 1), np.int64), 0.0), (outputs[None, None, :], _map_bits(outputs))]
    both = outputs[None, None, :] * CLASSES + inputs[None, :, None]
    grids.append((both, _map_bits(outputs) + _map_bits(inputs)))
    if codes.ndim == 4:
        grids.append((_neighbours(codes).reshape(flat.shape), 0.0))
    found = []
    for grid, map_bits in grids:
        cells = np.broadcast_to(grid, flat.shape)
        found.append(entropy_bits(symbols, cells) + map_bits + BITS_A_TABLE * len(np.unique(grid)))
    return min(found)


def _classes(shares: np.ndarray) -> np.ndarray:
    """Returns the class of every unit: by quarters of the weights alive, the emptiest units first."""
    order = np.argsort(shares)
    total = np.cumsum(shares[order])
    classes = np.empty(len(shares), np.int64)
    classes[order] = np.minimum(CLASSES * total / max(total[-1], 1e-30), CLASSES - 1).astype(
        np.int64
    )
    return classes


def _map_bits(classes: np.ndarray) -> float:
    return entropy_bits(classes, np.zeros_like(classes))


def _neighbours(codes: np.ndarray) -> np.ndarray:
    """Returns 0 to 8: nothing, small or large to the left, and the same above."""
    size = np.minimum(np.abs(codes.astype(np.int64)), 2)
    left, above = np.zeros_like(size), np.zeros_like(size)
    left[:, 1:], above[1:] = size[:, :-1], size[:-1]
    return 3 * left + above
