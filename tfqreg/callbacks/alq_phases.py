"""When a training of multi-bit weights does what, and at which rate."""

from dataclasses import dataclass

from tfqreg.optimizers import Mode


@dataclass(frozen=True)
class Phase:
    """Steps from `start` to before `stop`, between which the rate's factor falls geometrically."""

    name: str
    mode: Mode
    start: int
    stop: int
    first_factor: float
    last_factor: float

    def factor(self, step: int) -> float:
        """Returns what the initial rate is multiplied by at a step."""
        progress = min(max((step - self.start) / max(self.stop - self.start, 1), 0.0), 1.0)
        return self.first_factor * (self.last_factor / self.first_factor) ** progress


def phases(
    total: int,
    rounds: int,
    split: tuple[float, float, float],
    ends: tuple[float, float, float],
    decay: float,
) -> list[Phase]:
    """Returns the phases of a training; those without a step are left out.

    Args:
        total: steps of the training.
        rounds: how many rounds of basis, coordinate and pruning steps there are.
        split: how a round divides into basis, coordinate and pruning steps.
        ends: the fractions of the training at which the rounds, the straight-through and the
            coordinate phase end; what remains trains coordinates on the integer grid.
        decay: the factor by which the rate falls within a round, and again after the rounds.

    Example:
        >>> for phase in phases(100, 1, (2, 1, 1), (0.8, 0.8, 0.9), 0.1):
        ...     print(phase.name, phase.start, phase.stop)
        basis 0 40
        coordinate 40 60
        prune 60 80
        coordinate 80 90
        integer 90 100
    """
    whole = sum(split)
    until = [0.0, split[0] / whole, (split[0] + split[1]) / whole, 1.0]
    # The rate falls while bases and coordinates learn, and stays where it is while they are pruned.
    learning = until[2] or 1.0
    factors = [decay ** min(fraction / learning, 1.0) for fraction in until]
    names = (("basis", Mode.BASIS), ("coordinate", Mode.COORDINATE), ("prune", Mode.PRUNE))
    found = []
    for number in range(rounds):
        for i, (name, mode) in enumerate(names):
            start, stop = (
                round((number + until[i + k]) / rounds * ends[0] * total) for k in (0, 1)
            )
            found.append(Phase(name, mode, start, stop, factors[i], factors[i + 1]))
    after = (("ste", Mode.STE), ("coordinate", Mode.COORDINATE), ("integer", Mode.COORDINATE))
    rest = 1.0 - ends[0]
    for (name, mode), begin, end in zip(after, ends, (*ends[1:], 1.0), strict=True):
        first, last = (
            decay ** ((fraction - ends[0]) / rest if rest else 1.0) for fraction in (begin, end)
        )
        found.append(Phase(name, mode, round(begin * total), round(end * total), first, last))
    return [phase for phase in found if phase.start < phase.stop]
