"""One thing that stands between a model and the integer file, or between the file and its target."""

import re
from dataclasses import dataclass

_ERROR = re.compile(
    r"(?P<path>.+?): (?P<rule>.+?)(?:\. (?P<fix>.+?))??\.?(?: Received: (?P<received>.+))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Finding:
    """`path` names the layer or tensor; `severity` is "error" where nothing can be exported or run,
    else "warning".
    """

    path: str
    rule: str
    received: str
    fix: str
    severity: str = "error"

    @classmethod
    def of(cls, error: Exception, received: str = "") -> "Finding":
        """Returns the finding of an error whose text is "path: rule. Fix. Received: what";
        `received` stands in.
        """
        match = _ERROR.fullmatch(str(error))
        if match is None:
            return cls("", str(error), received, "")
        return cls(match["path"], match["rule"], match["received"] or received, match["fix"] or "")

    def __str__(self) -> str:
        fix = f". {self.fix}" if self.fix else ""
        received = f". Received: {self.received}" if self.received else ""
        return f"{self.path}: {self.rule}{fix}{received}"
