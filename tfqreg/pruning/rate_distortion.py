r"""Pruning by what a weight is worth a bit: large weights stay, and among equals those where the
coder is cheap.

    score(w) = w^2 / sum_{alive in the layer} w^2 / (1 - log2 p),    p = p(input) p(output) / p(layer)

The first quotient is the relative error that the layer's output takes when the weight goes, which
makes layers comparable (LAMP: Lee et al. 2021, arXiv 2010.07611, equation 2); the second its cost
in bits, sign included, under the shares of weights alive at its input, at its output and in its
layer, as the container's classes of rows and columns tell them apart. A weight alone in its row or
column costs more than one in company, so units empty and can be removed.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.pruning.magnitude import exact_threshold
from tfqreg.regularizers.penalty import Pruning


def alive_bits(mask: np.ndarray) -> np.ndarray:
    """Returns `1 - log2 p` of every weight, in the shape of the mask or one that broadcasts to it.

    Args:
        mask: the weights alive; inputs along the last axis but one, outputs along the last.

    Example:
        >>> alive_bits(np.bool_([[1, 1], [0, 0]])).round(1)
        array([[1. , 1. ],
               [3.2, 3.2]])
    """

    def share(axes: tuple[int, ...]) -> Any:
        count = np.prod([mask.shape[axis] for axis in axes])
        return (mask.sum(axes, keepdims=True) + 0.5) / (count + 0.5)

    taps = tuple(range(mask.ndim - 2))
    inputs, outputs, layer = (
        share((*taps, *rest)) for rest in ((mask.ndim - 1,), (mask.ndim - 2,), (-2, -1))
    )
    return 1.0 - np.log2(np.minimum(inputs * outputs / layer, 1.0))


def scores(w: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the worth of every weight, alive or not: relative squared size a bit."""
    squares = np.square(w, dtype=np.float64)
    return squares / max(squares[mask].sum(), 1e-30) / alive_bits(mask)


@keras.saving.register_keras_serializable(package="tfqreg")
class RateDistortion(Pruning):
    """Prunes the weights that are worth least a coded bit; one object given to many layers shares
    the loss among them.

    A pruned weight goes on learning until the mask is final, and may return.

    Args:
        sparsity: share of the weights to prune at the end, 0 <= sparsity < 1; `SizeBudget` moves
            it.

    Raises:
        ValueError: for a sparsity out of range.

    Example:
        >>> RateDistortion(0.98).sparsity
        0.98
    """

    revives = True

    def __init__(self, sparsity: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= sparsity < 1.0:
            raise ValueError(
                "RateDistortion: `sparsity` is a share of the weights, 0 <= sparsity < 1. "
                f"Received: sparsity={sparsity!r}"
            )
        self.sparsity = float(sparsity)
        self.built = True

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[np.ndarray]:
        """Returns which weights of each kernel score above the quantile `share` of all; the best of
        each stays.
        """
        found = [
            scores(ops.convert_to_numpy(w), ops.convert_to_numpy(kernel.mask).astype(bool))
            for kernel, w in pairs
        ]
        threshold = exact_threshold(found, share)
        return [score > min(threshold, np.nextafter(score.max(), 0.0)) for score in found]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"name": self.name, "sparsity": self.sparsity}
