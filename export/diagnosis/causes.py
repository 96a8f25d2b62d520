"""Why a tensor is far from the float net's, in words, and what to do, as code."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfqreg.errors import listed
from tfqreg.seen_ranges import FEW_STEPS

from .measure import TensorFigures

MANY_CLIPPED = 0.01  # of the values; calibration cuts a thousandth at most where that helps
NARROW = 64  # steps: a quarter of the grid, so that two of its eight bits are unused
# A layer of 8 bits keeps 30 to 50 dB of its input; below, it is worth a look.
LOW_SNR_DB = 20.0
_SHOWN_CHANNELS = 6
_SEPARATE = (
    "return the branches as separate outputs, or bring them to one range before they are joined"
)


class Cause(NamedTuple):
    """What is wrong with a tensor, and the remedy; both empty if nothing is.

    `order` is 0 for values that are lost, 1 for a coarse layer, 2 for errors of other layers.
    """

    words: str = ""
    remedy: str = ""
    order: int = 0


def cause_of(
    tensor: TensorFigures, weight_bits: int | None = None, partners: Sequence[str] = ()
) -> Cause:
    """Returns the first cause that applies, the most certain ones first.

    Args:
        tensor: its figures.
        weight_bits: of the layer that computes it; None, the default, if it has no weights.
        partners: the tensors that share its grid; none by default.
    """
    if partners and tensor.moving.any() and tensor.spans.max() < NARROW:
        return Cause(
            f"it uses {tensor.spans.max()} of 255 steps of {tensor.scale:.3g}, for it shares its "
            f"grid with {', '.join(partners)}, whose values are larger",
            _SEPARATE,
        )
    if not tensor.moving.any():
        return Cause()  # the float net's tensor does not move either
    if not tensor.spans.any():
        return Cause(
            "every code is the same: its grid is too coarse for these samples, or its signal "
            "vanished",
            "tfqreg.calibrate(q, samples)  # with samples like these",
        )
    if tensor.clipped is not None and tensor.clipped > MANY_CLIPPED:
        return Cause(
            f"{tensor.clipped:.1%} of its values lie beyond its grid",
            "tfqreg.calibrate(q, samples)  # more data, and data like these",
        )
    if tensor.spans.max() < NARROW:
        return Cause(
            f"these samples use {tensor.spans.max()} of its 255 steps",
            "tfqreg.calibrate(q, samples)  # with samples like these, or scaled as these are",
        )
    few = np.flatnonzero(tensor.moving & (tensor.spans < FEW_STEPS))
    if few.size:
        return _few_steps(tensor, few)
    if tensor.own_snr_db is not None and tensor.own_snr_db < LOW_SNR_DB:
        return _own_error(tensor, weight_bits)
    if tensor.snr_db is not None and tensor.snr_db < LOW_SNR_DB:
        return Cause("the error comes from the layers before it", order=2)
    return Cause()


def _few_steps(tensor: TensorFigures, few: np.ndarray) -> Cause:
    channels = listed(few, _SHOWN_CHANNELS)
    words = (
        f"{few.size} of {tensor.spans.size} channels ({channels}) go over fewer than {FEW_STEPS} "
        f"steps of {tensor.scale:.3g}; channel {int(tensor.spans.argmax())} sets the range"
    )
    if tensor.kind == "INPUT":
        return Cause(
            words,
            "normalize the columns before the model, or give the model an input for each range",
        )
    if tensor.kind == "CONCATENATION":
        return Cause(words, _SEPARATE)
    return Cause(words, "put BatchNormalization after the layer, or split it into two outputs")


def _own_error(tensor: TensorFigures, weight_bits: int | None) -> Cause:
    if weight_bits is not None and weight_bits < 8:
        return Cause(
            f"its weights have {weight_bits} bits",
            f'tfqreg.Rule("{tensor.name}", weights=tfqreg.Uniform(bits={weight_bits + 2}))',
            order=1,
        )
    return Cause(
        "its own rounding costs that much",
        "train on a few epochs with tfqreg.callbacks_for(q), or distill",
        order=1,
    )
