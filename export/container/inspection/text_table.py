"""Tables as plain text."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], sides: str) -> str:
    """Returns lines of cells as text in columns, two spaces apart.

    Args:
        lines: rows of one length.
        sides: "<" or ">" for each column, the side that its cells stand at.

    Example:
        >>> print(aligned([["kernel", "bytes"], ["conv", "72"]], "<>"))
        kernel  bytes
        conv       72
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
        ).rstrip()
        for line in lines
    )
