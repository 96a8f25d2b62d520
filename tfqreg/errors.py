"""Errors about one part of a model, with their parts kept apart for whoever lists them."""

from collections.abc import Iterable


class ModelError(ValueError):
    """Says what is wrong with one layer, tensor, rule or argument of a model.

    The text reads "path: rule. Fix. Received: what"; parts that are empty are left out.

    Args:
        path: names the layer, tensor or argument, such as "block_1/conv".
        rule: what does not hold, without a full stop at its end.
        fix: the remedy, likewise; none by default.
        received: what was found instead; none by default.

    Example:
        >>> print(ModelError("conv", "its kernel holds NaN", "Train with a smaller rate", "3 of 9"))
        conv: its kernel holds NaN. Train with a smaller rate. Received: 3 of 9
    """

    def __init__(self, path: str, rule: str, fix: str = "", received: str = "") -> None:
        super().__init__(path, rule, fix, received)
        self.path, self.rule, self.fix, self.received = path, rule, fix, received

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        received = [f"Received: {self.received}"] if self.received else []
        parts = [f"{place}{self.rule}", *([self.fix] if self.fix else []), *received]
        return ". ".join(parts) + ("" if received else ".")


def listed(numbers: Iterable[int], most: int) -> str:
    """Returns numbers as words, the first few of many.

    Example:
        >>> listed([3, 5], most=2), listed([3, 5, 8], most=2)
        ('3, 5', '3, 5, ...')
    """
    texts = list(map(str, numbers))
    return ", ".join(texts[:most]) + ", ..." * (len(texts) > most)


def diverged(path: str, received: str) -> ModelError:
    """Returns the error for the variable of a quantizer that training has made NaN or infinite.

    Example:
        >>> print(diverged("relu_quantizer", "scale=nan").rule)
        the training diverged
    """
    fix = "Train again with a smaller learning rate, or load weights from before"
    return ModelError(path, "the training diverged", fix, received)


class ModelTypeError(ModelError, TypeError):
    """Says that a model, layer or argument is of a kind that cannot be used."""
