"""The one error of this package, and the words it is built from."""


class ContainerError(ValueError):
    """A `.tqw` that a decoder must refuse, or a `.tflite` that the encoder cannot read.

    The message names the section or tensor, the byte of the file, what was wrong and the remedy.

    >>> damaged("header", 8, "major version 9 is unknown", "Update tfqreg.")
    ContainerError('header, byte 8: major version 9 is unknown. Update tfqreg.')
    """


def damaged(
    where: str, offset: int, what: str, remedy: str = "Fetch or pack the file again."
) -> ContainerError:
    """Returns the error for `what` found at file byte `offset` inside `where`."""
    return ContainerError(f"{where}, byte {offset}: {what}. {remedy}")
