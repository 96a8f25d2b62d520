r"""Dynamic network surgery: a mask with hysteresis over weights that go on learning.

What was cut may return. With a threshold t for each kernel, a weight is cut if |w| <= (1 - margin)
t, comes back if |w| > (1 + margin) t, and keeps its state between. t is what cuts the fraction that
the sparsity asks for, or `mean|w| + deviations std|w|`.

Reference: Guo, Yao and Chen 2016, arXiv 1608.04493, equation 3.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.pruning.schedules import check_sparsity
from tfqreg.regularizers.penalty import Pruning


def reach(w: np.ndarray, mask: np.ndarray, margin: float) -> np.ndarray:
    """Returns the threshold from which on each weight is cut.

    That is `|w| / (1 - margin)` for a weight in the mask, and `|w| / (1 + margin)` for another.
    """
    return np.abs(w) / np.where(mask, np.float32(1.0 - margin), np.float32(1.0 + margin))


def surgery_mask(w: np.ndarray, mask: np.ndarray, threshold: float, margin: float) -> np.ndarray:
    """Returns the mask after one operation: cut what is small, bring back what has grown.

    Args:
        w: weights, of any shape.
        mask: those that are not cut, same shape.
        threshold: of |w|, in the middle of the hysteresis.
        margin: half the width of the hysteresis, in units of the threshold.

    Example:
        >>> w, mask = np.float32([0.8, 0.95, 1.05, 1.2]), np.array([True, True, False, False])
        >>> surgery_mask(w, mask, 1.0, 0.1)
        array([False,  True, False,  True])
    """
    return reach(w, mask, margin) > threshold


@keras.saving.register_keras_serializable(package="tfqreg")
class Surgery(Pruning):
    """Prunes the smallest weights of each kernel, and lets those that grow again return.

    A weight is cut if `|w| <= (1 - margin) t` and comes back if `|w| > (1 + margin) t`, until the
    mask is final.

    Args:
        sparsity: fraction of the weights to prune at the end, 0 <= sparsity < 1; 0.8 by default.
        deviations: takes `mean|w| + deviations * std|w|` for the threshold t instead, whatever
            fraction that prunes; None by default.
        margin: half the width of the hysteresis, in units of the threshold, 0 <= margin < 1; 0.1 by
            default.

    Raises:
        ModelError: for a sparsity or margin out of range, or deviations that are no number.

    Example:
        >>> Surgery(0.75).sparsity
        0.75

    Reference: Guo, Yao and Chen 2016, arXiv 1608.04493, equation 3.
    """

    revives = True

    def __init__(
        self,
        sparsity: float = 0.8,
        deviations: float | None = None,
        margin: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= margin < 1.0:
            raise ModelError(
                "Surgery",
                "`margin` is a fraction of the threshold, 0 <= margin < 1",
                received=f"margin={margin!r}",
            )
        if deviations is not None and not np.isfinite(deviations):
            raise ModelError(
                "Surgery",
                "`deviations` must be a finite number",
                received=f"deviations={deviations!r}",
            )
        self.sparsity = check_sparsity(sparsity, "Surgery")
        self.deviations, self.margin = deviations, float(margin)
        self.built = True

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[np.ndarray]:
        """Returns the masks after a last operation."""
        return [self._mask(quantized_kernel, weights, share) for quantized_kernel, weights in pairs]

    def _mask(self, quantized_kernel: Any, weights: Any, fraction: float) -> np.ndarray:
        w = ops.convert_to_numpy(weights)
        mask = ops.convert_to_numpy(quantized_kernel.mask).astype(bool)
        threshold = self._threshold(w, mask, fraction)
        mask = surgery_mask(w, mask, threshold, self.margin)
        if not mask.any():
            raise ModelError(
                weights.path,
                f"the threshold {threshold:.3g} leaves no weight",
                "Lower `sparsity` or `deviations`",
                f"sparsity={self.sparsity}, deviations={self.deviations}",
            )
        return mask

    def _threshold(self, w: np.ndarray, mask: np.ndarray, fraction: float) -> float:
        if self.deviations is not None:
            magnitude = np.abs(w)
            goal = float(magnitude.mean() + self.deviations * magnitude.std())
            return goal * fraction / max(self.sparsity, 1e-9)
        cut = round(fraction * w.size)
        if not cut:
            return 0.0
        return float(np.partition(reach(w, mask, self.margin).ravel(), cut - 1)[cut - 1])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"sparsity": self.sparsity, "deviations": self.deviations, "margin": self.margin}
        return {"name": self.name, **own}
