"""About how many bits the container takes for the codes of a kernel, without packing them."""

import numpy as np

# Classes of outputs, and of inputs: enough to tell nearly empty units from full ones, and at most
# sixteen tables, a hundred bytes, for both together.
CLASSES = 4
# A table of four codes as the container prices it: 30 bits, and 4.5 for each code.
BITS_PER_TABLE = 48


def entropy_bits(symbols: np.ndarray, cells: np.ndarray) -> float:
    """Returns the bits of `symbols` under one ideal static table for each cell.

        -sum_{c, s} n(c, s) log2(n(c, s) / n(c))

    Args:
        symbols: whole numbers of 0 and more.
        cells: which table each symbol is coded by, whole numbers of 0 and more, same shape.

    Example:
        >>> entropy_bits(np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]))
        2.0
    """
    width = int(symbols.max()) + 1
    counts = np.bincount(
        (cells * width + symbols).ravel(), minlength=(int(cells.max()) + 1) * width
    )
    counts = counts.reshape(-1, width).astype(np.float64)
    probability = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return float(-(counts * np.log2(np.where(probability > 0, probability, 1.0))).sum())


def code_bits(codes: np.ndarray) -> float:
    """Returns about the bits that the container takes for a kernel.

    That is the least of four ways: one table; tables by classes of outputs; of outputs and inputs;
    by the two neighbours in the window. Classes gather units by their fraction of zeros, and their
    map is counted.

    Args:
        codes: whole numbers, (*window, inputs, outputs).

    Example:
        >>> dense = np.random.default_rng(0).integers(-3, 4, (64, 32))
        >>> [round(code_bits(codes) / codes.size, 1) for codes in (dense, 0 * dense)]
        [2.8, 0.0]
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
        found.append(
            entropy_bits(symbols, cells) + map_bits + BITS_PER_TABLE * len(np.unique(grid))
        )
    return min(found)


def _classes(alive: np.ndarray) -> np.ndarray:
    """Returns the class of every unit: by quarters of the weights alive, emptiest units first."""
    order = np.argsort(alive)
    total = np.cumsum(alive[order])
    classes = np.empty(len(alive), np.int64)
    quarters = CLASSES * total / max(total[-1], 1e-30)
    classes[order] = np.minimum(quarters, CLASSES - 1).astype(np.int64)
    return classes


def _map_bits(classes: np.ndarray) -> float:
    return entropy_bits(classes, np.zeros_like(classes))


def _neighbours(codes: np.ndarray) -> np.ndarray:
    """Returns 0 to 8: nothing, small or large to the left, and the same above."""
    size = np.minimum(np.abs(codes.astype(np.int64)), 2)
    left, above = np.zeros_like(size), np.zeros_like(size)
    left[:, 1:], above[1:] = size[:, :-1], size[:-1]
    return 3 * left + above
