"""One thing that keeps a model from its integer file, or the file from its target."""

from dataclasses import dataclass

from tfqreg.errors import ModelError


@dataclass(frozen=True)
class Finding:
    """What `tfqreg.export.check` found at one place of a model.

    Attributes:
        path: names the layer or tensor; empty if the whole model is meant.
        rule: what does not hold.
        received: what was found instead.
        fix: the remedy; empty if none is known.
        severity: "error" if nothing can be exported or run, else "warning".

    Example:
        >>> print(Finding("conv", "its kernel holds NaN", "3 of 9", "Train with a smaller rate"))
        conv: its kernel holds NaN. Train with a smaller rate. Received: 3 of 9
    """

    path: str
    rule: str
    received: str
    fix: str
    severity: str = "error"

    @classmethod
    def of(cls, error: Exception, received: str = "") -> "Finding":
        """Returns the finding of an error.

        Args:
            error: a `ModelError` gives its fields; any other gives its text as the rule.
            received: stands in if the error says nothing of it; none by default.
        """
        if isinstance(error, ModelError):
            return cls(error.path, error.rule, error.received or received, error.fix)
        return cls("", str(error), received, "")

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        fix = f". {self.fix}" if self.fix else ""
        received = f". Received: {self.received}" if self.received else ""
        return f"{place}{self.rule}{fix}{received}"
