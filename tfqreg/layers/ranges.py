"""What `quantize(activations=...)` and `Rule(activations=...)` take beside a number of bits."""

from dataclasses import dataclass
from typing import Any, Protocol

from tfqreg.errors import ModelTypeError
from tfqreg.layers.activation import QuantizedActivation
from tfqreg.layers.activation_quantizer import ActivationQuantizer
from tfqreg.layers.multibit_activation import MultiBitActivation
from tfqreg.quantizers.base import check_bits


class Range(Protocol):
    """Makes the quantizers of activations."""

    def layer(self, signed: bool | None, name: str) -> ActivationQuantizer:
        """Returns a quantizer.

        Args:
            signed: False for what is never negative, None if that is unknown.
            name: of the layer.
        """
        ...


@dataclass(frozen=True)
class LearnedRange:
    """Activations on a learned grid, which a number of bits alone stands for.

        x_hat = s clip(round(x / s), low, low + 2^bits - 1)

    Args:
        bits: width of the codes, 1 to 8; 8 by default.
        scale_from: "msqe" trains the scales to lower the squared error, "task" trains them by the
            loss (LSQ); "msqe" by default.
        power_of_two: gives each grid a power of two for its scale, which is set by the first data
            and stays; False by default.
        pull: how strongly the squared error also pulls the activations to their levels; 0 by
            default.

    Raises:
        ModelError: for values that `QuantizedActivation` refuses.

    Example:
        >>> LearnedRange(bits=4, pull=0.5).layer(signed=False, name="relu_quantizer").pull
        0.5

    Reference: Choi, El-Khamy, Lee 2018, arXiv 1809.00095.
    """

    bits: int = 8
    scale_from: str = "msqe"
    power_of_two: bool = False
    pull: float = 0.0

    def __post_init__(self) -> None:
        # Mixed precision is for the layer of a model to refuse, by its own name.
        self._layer(None, "LearnedRange", dtype="float32")

    def layer(self, signed: bool | None, name: str) -> ActivationQuantizer:
        """Returns a quantizer."""
        return self._layer(signed, name)

    def _layer(
        self, signed: bool | None, name: str, dtype: str | None = None
    ) -> ActivationQuantizer:
        return QuantizedActivation(
            self.bits,
            signed,
            self.scale_from,
            power_of_two=self.power_of_two,
            pull=self.pull,
            name=name,
            dtype=dtype,
        )


@dataclass(frozen=True)
class UnitRange:
    r"""Activations clipped to [0, 1] if they are never negative, as DoReFa and WRPN want them.

        x_hat = round(clip(x, 0, 1) (2^k - 1)) / (2^k - 1),    straight-through inside [0, 1]

    What may be negative (inputs, sums, logits) has no such range, and keeps a learned grid.

    Args:
        bits: width of the codes of what is never negative, 1 to 8; 4 by default.
        signed_bits: width of the codes of the rest, 1 to 8; 8 by default.

    Raises:
        ModelError: for bits out of range.

    Example:
        >>> UnitRange(bits=2).layer(signed=False, name="relu_quantizer").fixed_scale
        0.3333333333333333

    Reference: Zhou et al. 2016, arXiv 1606.06160, section 2.5; Mishra et al. 2018, arXiv
    1709.01134.
    """

    bits: int = 4
    signed_bits: int = 8

    def __post_init__(self) -> None:
        for bits in (self.bits, self.signed_bits):
            check_bits(bits, "UnitRange")

    def layer(self, signed: bool | None, name: str) -> ActivationQuantizer:
        """Returns a quantizer."""
        if signed is False:
            return QuantizedActivation(
                self.bits, signed, fixed_scale=1 / (2**self.bits - 1), name=name
            )
        return QuantizedActivation(self.signed_bits, signed, name=name)


@dataclass(frozen=True)
class MultiBitRange:
    """Activations on uneven levels if they are never negative; experimental.

        x_hat = x_ref + sum_i gamma_i D_i,    D_i in {-1, 1}

    as of `tfqreg.layers.multibit_activation.MultiBitActivation`. No integer model has such levels:
    the export refuses them. What may be negative keeps a learned grid.

    Args:
        bits: binary vectors, 1 to 4; 2 by default.
        signed_bits: width of the codes of the rest, 1 to 8; 8 by default.

    Raises:
        ModelError: for bits out of range.

    Example:
        >>> MultiBitRange().layer(signed=False, name="relu_quantizer").bits
        2

    Reference: Qu et al. 2020, arXiv 1912.08883.
    """

    bits: int = 2
    signed_bits: int = 8

    def __post_init__(self) -> None:
        check_bits(self.bits, "MultiBitRange", highest=4)
        check_bits(self.signed_bits, "MultiBitRange")

    def layer(self, signed: bool | None, name: str) -> ActivationQuantizer:
        """Returns a quantizer."""
        if signed is False:
            return MultiBitActivation(self.bits, name=name)
        return QuantizedActivation(self.signed_bits, signed, name=name)


def check_range(owner: str, activations: Any) -> None:
    """Raises ModelTypeError unless `activations` is a number of bits, a range or None."""
    whole = isinstance(activations, int) and not isinstance(activations, bool)
    if (
        activations is None
        or whole
        or (hasattr(activations, "layer") and hasattr(activations, "bits"))
    ):
        return
    raise ModelTypeError(
        owner,
        "`activations` must be a number of bits, a range such as tfqreg.UnitRange(4), or None",
        received=f"activations={activations!r}",
    )


def layer_for(wanted: set[Any], signed: bool | None, name: str) -> ActivationQuantizer:
    """Returns the quantizer with the fewest bits that is asked for.

    Args:
        wanted: ranges, or numbers of bits, which stand for a `LearnedRange`.
        signed: False for what is never negative, None if that is unknown.
        name: of the layer.
    """
    ranges = (LearnedRange(choice) if isinstance(choice, int) else choice for choice in wanted)
    return min((choice.layer(signed, name) for choice in ranges), key=lambda layer: layer.bits)
