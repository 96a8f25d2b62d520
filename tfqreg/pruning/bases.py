"""Which bases of multi-bit weights to delete, and what those that stay take."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.queries import quantized_layers
from tfqreg.pruning.pruned import Pair
from tfqreg.quantizers import MultiBit
from tfqreg.quantizers.multibit import bases_per_weight


def multibit_kernels(model: keras.Model) -> dict[str, Pair]:
    """Returns, by "layer/kernel", the multi-bit kernels of a model with their float weights.

    Raises:
        ModelError: for a model without any.
    """
    pairs = {
        f"{layer.name}/{quantized_kernel.name}": (quantized_kernel, weights)
        for layer in quantized_layers(model)
        for quantized_kernel, weights in layer.kernel_pairs()
        if isinstance(quantized_kernel.quantizer, MultiBit)
    }
    if not pairs:
        raise ModelError(
            model.name,
            "no layer has multi-bit weights",
            "Quantize with Rule(..., weights=MultiBit())",
        )
    return pairs


def average_bits(model: keras.Model) -> dict[str, float]:
    """Returns the average bits per weight of each multi-bit kernel, and of all as "total".

        sum_g n_g I_g / sum_g n_g

    over groups g of n_g weights on I_g bases, by "layer/kernel". These are the bases only: the
    coordinates and the widths themselves are in `storage_bytes`.

    Args:
        model: a model with `MultiBit` layers.

    Raises:
        ModelError: for a model without any.

    Example:
        >>> import keras, tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> average_bits(tq.quantize(model, [tq.Rule("head", tq.MultiBit(bases=1))]))
        {'head/kernel': 1.0, 'total': 1.0}
    """
    quantized_kernels = {name: pair[0] for name, pair in multibit_kernels(model).items()}
    bits = {name: bases_per_weight(each.state) for name, each in quantized_kernels.items()}
    counts = {name: each.count for name, each in quantized_kernels.items()}
    total = sum(bits[name] * counts[name] for name in counts) / sum(counts.values())
    return {**bits, "total": total}


def storage_bytes(weights: int, bits: float, alphas: int, groups: int = 0, bases: int = 6) -> float:
    """Returns the bytes of multi-bit weights as the paper counts them.

        weights bits / 8 + 4 alphas + groups ceil(log2(bases + 1)) / 8

    Args:
        weights: number of weights.
        bits: average bases per weight.
        alphas: number of coordinates, float32.
        groups: number of groups, whose widths are counted on top; 0, the default, leaves them out,
            as published.
        bases: the most bases of a group; 6 by default.

    Example:
        >>> storage_bytes(430_500, 0.40, 300)
        22725.0

    Reference: Qu et al. 2020, arXiv 1912.08883.
    """
    return weights * bits / 8 + 4 * alphas + groups * math.ceil(math.log2(bases + 1)) / 8


@dataclass(frozen=True)
class Candidates:
    """The bases of one kernel that might be deleted.

    Args:
        scores: modelled increase of the loss without each base, (channels, parts, bases), infinite
            where there is no base.
        bits_per_base: bits that each base takes, one per weight of its group.
    """

    scores: np.ndarray
    bits_per_base: int

    @property
    def count(self) -> int:
        """The bases there are."""
        return int(np.isfinite(self.scores).sum())


def increase(
    slope: np.ndarray, curvature: np.ndarray, alpha: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Returns what deleting each base adds to the quadratic model of the loss.

        -slope alpha + curvature alpha^2 / 2,    infinite where there is no base to delete

    Reference: Qu et al. 2020, arXiv 1912.08883.
    """
    return np.where(valid, -slope * alpha + curvature * np.square(alpha) / 2.0, np.inf)


def to_delete(
    kernels: list[Candidates], bits: float, fraction: float, floor: float
) -> list[np.ndarray]:
    """Returns, for each kernel, the boolean array of the bases to delete.

    Every kernel offers its cheapest bases, those are pooled and sorted by the increase of the loss
    per bit saved, and go from the lowest as long as no more than `bits` are saved. If the offer
    does not suffice all of it goes.

    Args:
        kernels: the candidates of each kernel.
        bits: to save at most, in all.
        fraction: of its bases that a kernel offers at most; one is always offered.
        floor: average bits per weight that no kernel goes below; one base is always kept.

    Example:
        >>> dear = Candidates(np.array([[[4.0, 3.0]]]), bits_per_base=1)
        >>> cheap = Candidates(np.array([[[1.0, 2.0]]]), bits_per_base=1)
        >>> [chosen.tolist() for chosen in to_delete([dear, cheap], 1, fraction=0.5, floor=0.0)]
        [[[[False, False]]], [[[True, False]]]]
    """
    offers = []
    for index, candidates in enumerate(kernels):
        count, groups = candidates.count, math.prod(candidates.scores.shape[:2])
        kept = max(1, math.ceil(floor * groups))
        number = max(0, min(max(1, math.floor(fraction * count)), count - kept))
        cheapest = np.argsort(candidates.scores, axis=None, kind="stable")[:number]
        per_bit = candidates.scores.ravel()[cheapest] / candidates.bits_per_base
        offers += zip(per_bit.tolist(), [index] * number, cheapest.tolist(), strict=True)
    chosen = [np.zeros(candidates.scores.shape, bool) for candidates in kernels]
    for _, index, place in sorted(offers):
        if bits < kernels[index].bits_per_base:
            break
        chosen[index].ravel()[place] = True
        bits -= kernels[index].bits_per_base
    return chosen


def delete(quantized_kernel: QuantizedKernel, chosen: np.ndarray) -> None:
    """Deletes the chosen bases of a kernel, their coordinates and their signs."""
    if not chosen.any():
        return
    state: dict[str, Any] = quantized_kernel.state
    for name in ("valid", "alpha", "basis"):
        value = ops.convert_to_numpy(state[name])
        state[name].assign(value * ~(chosen if value.ndim == chosen.ndim else chosen[..., None]))
