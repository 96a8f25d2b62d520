r"""Dynamic network surgery: a mask with hysteresis over weights that go on learning, so that what
was cut may return.

With a threshold t for each kernel, a weight is cut where |w| <= (1 - margin) t, comes back where
|w| > (1 + margin) t, and keeps its state between. t is what cuts the share that the sparsity asks for, or `mean|w| + deviations std|w|`.

Reference: Guo, Yao and Chen 2016, arXiv 1608.04493, equation 3.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.regularizers.penalty import Pruning


def reach(w: np.ndarray, mask: np.ndarray, margin: float) -> np.ndarray:
    """Returns the threshold from which on each weight is cut: `|w| / (1 -+ margin)`, minus where it
    is in the mask.
    """
    return np.abs(w) / np.where(mask, np.float32(1.0 - margin), np.float32(1.0 + margin))


def surgery_mask(w: np.ndarray, mask: np.ndarray, threshold: float, margin: float) -> np.ndarray:
    """Returns the mask after one operation.

    Example:
        >>> w, mask = np.float32([0.8, 0.95, 1.05, 1.2]), np.array([True, True, False, False])
        >>> surgery_mask(w, mask, 1.0, 0.1)
        array([False,  True, False,  True])
    """
    return reach(w, mask, margin) > threshold


@keras.saving.register_keras_serializable(package="tfqreg")
class Surgery(Pruning):
    """Prunes the smallest weights of each kernel, and lets those that grow again return until the
    mask is final.

    Args:
        sparsity: share of the weights to prune at the end, 0 <= sparsity < 1; 0.8 by default.
        deviations: takes `mean|w| + deviations * std|w|` for the threshold instead, whatever share
            that prunes.
        margin: half the width of the hysteresis, in units of the threshold, 0 <= margin < 1; 0.1 by
            default.

    Raises:
        ValueError: for a sparsity or margin out of range, or deviations that are no number.

    Example:
        >>> Surgery(0.75).sparsity
        0.75

    Reference: Guo, Yao and Chen 2016, arXiv 1608.04493.
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
        for name, share in (("sparsity", sparsity), ("margin", margin)):
            if not 0.0 <= share < 1.0:
                raise ValueError(
                    f"Surgery: `{name}` is a share, 0 <= {name} < 1. Received: {name}={share!r}"
                )
        if deviations is not None and not np.isfinite(deviations):
            raise ValueError(
                f"Surgery: `deviations` must be a finite number. Received: "
                f"deviations={deviations!r}"
            )
        self.sparsity, self.deviations, self.margin = float(sparsity), deviations, float(margin)
        self.built = True

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[np.ndarray]:
        """Returns the masks after a last operation."""
        return [self._mask(kernel, variable, share) for kernel, variable in pairs]

    def _mask(self, kernel: Any, variable: Any, share: float) -> np.ndarray:
        w, mask = ops.convert_to_numpy(variable), ops.convert_to_numpy(kernel.mask).astype(bool)
        if self.deviations is not None:
            magnitude = np.abs(w)
            threshold = (
                float(magnitude.mean() + self.deviations * magnitude.std())
                * share
                / max(self.sparsity, 1e-9)
            )
        else:
            cut = round(share * w.size)
            threshold = (
                float(np.partition(reach(w, mask, self.margin).ravel(), cut - 1)[cut - 1])
                if cut
                else 0.0
            )
        mask = surgery_mask(w, mask, threshold, self.margin)
        if not mask.any():
            raise ValueError(
                f"{variable.path}: the threshold {threshold:.3g} leaves no weight. Lower "
                f"`sparsity` or `deviations`. "
                f"Received: sparsity={self.sparsity}, deviations={self.deviations}"
            )
        return mask

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"sparsity": self.sparsity, "deviations": self.deviations, "margin": self.margin}
        return {"name": self.name, **own}
