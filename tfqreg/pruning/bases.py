"""Which bases of multi-bit weights to delete, and what those that stay take."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers import MultiBit
from tfqreg.quantizers.multibit import bases_per_weight

Pair = tuple[QuantizedKernel, keras.Variable]


def multibit_kernels(model: keras.Model) -> dict[str, Pair]:
    """Returns, by "layer/kernel", the multi-bit kernels of a model with their variables.

    Raises:
        ValueError: for a model without any.
    """
    kernels = {
        f"{layer.name}/{kernel.name}": (kernel, variable)
        for layer in quantized_layers(model)
        for kernel, variable in layer.kernel_pairs()
        if isinstance(kernel.quantizer, MultiBit)
    }
    if not kernels:
        raise ValueError(
            f"{model.name}: no layer has multi-bit weights. Quantize with Rule(..., "
            f"weights=MultiBit())."
        )
    return kernels


def average_bits(model: keras.Model) -> dict[str, float]:
    """Returns the average bits a weight of each multi-bit kernel by "layer/kernel", and of all of
    them as "total".

    `sum_g n_g I_g / sum_g n_g`: bases only. The coordinates and the widths themselves are in
    `storage_bytes`.

    Args:
        model: a model with `MultiBit` layers.

    Raises:
        ValueError: for a model without any.

    Example:
        >>> import keras, tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> average_bits(tq.quantize(model, [tq.Rule("head", tq.MultiBit(bases=1))]))
        {'head/kernel': 1.0, 'total': 1.0}
    """
    kernels = multibit_kernels(model)
    bits = {name: bases_per_weight(kernel.state) for name, (kernel, _) in kernels.items()}
    weights = {name: kernel.count for name, (kernel, _) in kernels.items()}
    total = sum(bits[name] * weights[name] for name in kernels) / sum(weights.values())
    return {**bits, "total": total}


def storage_bytes(weights: int, bits: float, alphas: int, groups: int = 0, bases: int = 6) -> float:
    """Returns the bytes of multi-bit weights as the paper counts them, and the widths of the groups
    on top.

        weights bits / 8 + 4 alphas + groups ceil(log2(bases + 1)) / 8

    Args:
        weights: their number.
        bits: average bases a weight.
        alphas: number of coordinates, float32.
        groups: number of groups; 0 leaves their widths out, as published.
        bases: the most bases of a group.

    Example:
        >>> storage_bytes(430_500, 0.40, 300)
        22725.0
    """
    return weights * bits / 8 + 4 * alphas + groups * math.ceil(math.log2(bases + 1)) / 8


@dataclass(frozen=True)
class Candidates:
    """The bases of one kernel: the modelled increase of the loss without each, and the bits each
    takes.

    `scores` is (channels, parts, bases), infinite where there is no base.
    """

    scores: np.ndarray
    bits_a_base: int

    @property
    def count(self) -> int:
        """The bases there are."""
        return int(np.isfinite(self.scores).sum())


def increase(
    slope: np.ndarray, curvature: np.ndarray, alpha: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Returns what deleting each base adds to the model of the loss, `-slope alpha + curvature
    alpha^2 / 2`.

    Infinite where there is no base to delete.
    """
    return np.where(valid, -slope * alpha + curvature * np.square(alpha) / 2.0, np.inf)


def to_delete(
    kernels: list[Candidates], bits: float, share: float, floor: float
) -> list[np.ndarray]:
    """Returns, for each kernel, the boolean array of the bases to delete.

    Every kernel offers its cheapest bases, those are pooled and sorted by the increase of the loss
    a bit saved, and go from the lowest as long as no more than `bits` are saved. Where the offer
    does not suffice all of it goes.

    Args:
        kernels: their candidates.
        bits: to save at most, in all.
        share: of its bases that a kernel offers at most; one is always offered.
        floor: average bits a weight that no kernel goes below; one base is always kept.
    """
    offers = []
    for index, kernel in enumerate(kernels):
        groups = math.prod(kernel.scores.shape[:2])
        kept = max(1, math.ceil(floor * groups))
        number = max(0, min(max(1, math.floor(share * kernel.count)), kernel.count - kept))
        cheapest = np.argsort(kernel.scores, axis=None, kind="stable")[:number]
        a_bit = kernel.scores.ravel()[cheapest] / kernel.bits_a_base
        offers += zip(a_bit.tolist(), [index] * number, cheapest.tolist(), strict=True)
    chosen = [np.zeros(kernel.scores.shape, bool) for kernel in kernels]
    for _, index, place in sorted(offers):
        if bits < kernels[index].bits_a_base:
            break
        chosen[index].ravel()[place] = True
        bits -= kernels[index].bits_a_base
    return chosen


def delete(kernel: QuantizedKernel, chosen: np.ndarray) -> None:
    """Deletes the chosen bases of a kernel, their coordinates and their signs."""
    if not chosen.any():
        return
    state: dict[str, Any] = kernel.state
    for name in ("valid", "alpha", "basis"):
        value = ops.convert_to_numpy(state[name])
        state[name].assign(value * ~(chosen if value.ndim == chosen.ndim else chosen[..., None]))
