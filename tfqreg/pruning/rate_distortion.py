r"""Pruning by a weight's worth per coded bit: large weights stay, and among equals the cheap ones.

    score(w) = w^2 / sum_{alive in the layer} w^2 / (1 - log2 p)
    p = p(input) p(output) / p(layer)

The first quotient is the relative error that the layer's output takes when the weight goes, which
makes layers comparable (LAMP: Lee et al. 2021, arXiv 2010.07611, equation 2); the second its cost
in bits, sign included, under the fractions of weights alive at its input, at its output and in its
layer, as the container's classes of rows and columns tell them apart. A weight alone in its row or
column costs more than one in company, so units empty and can be removed.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.pruning.magnitude import exact_threshold
from tfqreg.pruning.schedules import check_sparsity
from tfqreg.regularizers.penalty import Pruning


def alive_bits(mask: np.ndarray) -> np.ndarray:
    """Returns the coded bits `1 - log2 p` of every weight.

    Args:
        mask: the weights alive, (*window, inputs, outputs).

    Returns:
        The bits, in the shape of the mask or one that broadcasts to it.

    Example:
        >>> alive_bits(np.bool_([[1, 1], [0, 0]])).round(1)
        array([[1. , 1. ],
               [3.2, 3.2]])
    """

    def alive(*axes: int) -> Any:
        """The fraction alive; half a weight more in each count keeps an empty unit above 0."""
        count = np.prod([mask.shape[axis] for axis in axes])
        return (mask.sum(axes, keepdims=True) + 0.5) / (count + 0.5)

    window = range(mask.ndim - 2)
    inputs, outputs, layer = alive(*window, -1), alive(*window, -2), alive(*window, -2, -1)
    return 1.0 - np.log2(np.minimum(inputs * outputs / layer, 1.0))


def scores(w: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the worth of every weight, alive or not: relative squared size per bit.

    Args:
        w: weights, (*window, inputs, outputs).
        mask: the weights alive, same shape.
    """
    squares = np.square(w, dtype=np.float64)
    return squares / max(squares[mask].sum(), 1e-30) / alive_bits(mask)


@keras.saving.register_keras_serializable(package="tfqreg")
class RateDistortion(Pruning):
    """Prunes the weights that are worth least per coded bit.

        score(w) = w^2 / sum_{alive in the layer} w^2 / (1 - log2 p)

    with the probability p of a weight alive in its row and column. One object given to many layers
    prunes among all their weights. A pruned weight goes on learning until the mask is final, and
    may return.

    Args:
        sparsity: fraction of the weights to prune at the end, 0 <= sparsity < 1; `SizeBudget` moves
            it.

    Raises:
        ModelError: for a sparsity out of range.

    Example:
        >>> RateDistortion(0.98).sparsity
        0.98

    Reference: Lee et al. 2021, arXiv 2010.07611, equation 2, for the first quotient.
    """

    revives = True

    def __init__(self, sparsity: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sparsity = check_sparsity(sparsity, "RateDistortion")
        self.built = True

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[np.ndarray]:
        """Returns which weights of each kernel score above the quantile `share` of all.

        The best of each kernel stays.
        """
        found = [
            scores(
                ops.convert_to_numpy(weights),
                ops.convert_to_numpy(quantized_kernel.mask).astype(bool),
            )
            for quantized_kernel, weights in pairs
        ]
        threshold = exact_threshold(found, share)
        return [score > min(threshold, np.nextafter(score.max(), 0.0)) for score in found]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"name": self.name, "sparsity": self.sparsity}
