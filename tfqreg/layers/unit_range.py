r"""The activations that DoReFa and WRPN compute with: clipped to [0, 1], on evenly spaced levels.

    x_hat = round(clip(x, 0, 1) (2^k - 1)) / (2^k - 1)

straight-through inside [0, 1], 0 outside.
"""

from dataclasses import dataclass

from tfqreg.quantizers.base import check_bits


@dataclass(frozen=True)
class UnitRange:
    """Stands for a number of bits in `quantize(activations=...)` and `Rule(activations=...)`: the range is [0, 1].

    What may be negative (inputs, sums, logits) has no such range, and keeps a learned grid. A learned grid is what the
    number of bits alone gives; it clips where the activations ask for it.

    Args:
        bits: width of the codes of what is never negative, 1 to 8; 4 by default.
        signed_bits: width of the codes of the rest, 1 to 8; 8 by default.

    Raises:
        ValueError: for bits out of range.

    Example:
        >>> UnitRange(bits=2).grid(signed=False)
        (2, 0.3333333333333333)

    Reference: Zhou et al. 2016, arXiv 1606.06160, section 2.5; Mishra et al. 2018, arXiv 1709.01134.
    """

    bits: int = 4
    signed_bits: int = 8

    def __post_init__(self) -> None:
        for bits in (self.bits, self.signed_bits):
            check_bits(bits, "UnitRange")

    def grid(self, signed: bool | None) -> tuple[int, float | None]:
        """Returns the width of the codes, and the spacing of the levels where it is fixed."""
        return (self.bits, 1 / (2**self.bits - 1)) if signed is False else (self.signed_bits, None)


def chosen_grid(wanted: set[int | UnitRange], signed: bool | None) -> tuple[int, float | None]:
    """Returns width and fixed spacing of the grid with the fewest bits that is asked for."""
    grids = [choice.grid(signed) if isinstance(choice, UnitRange) else (choice, None) for choice in wanted]
    return min(grids, key=lambda grid: grid[0])
