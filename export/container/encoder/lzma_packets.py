"""LZMA (Igor Pavlov's format): the decisions that a packet is made of, and the coder of decisions.

A packet is a literal, a match or a repetition; SPEC.md has the table. A decision is one bit with
the name of the adaptive probability it is coded with.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import log2

# Probabilities have 11 bits. Each bit moves one by 1/32 of its distance; the range is refilled
# below 24 bits. All three are LZMA's.
ONE = 1 << 11
MOVE_BITS = 5
TOP = 1 << 24
# Places in a 32-bit word, which the literals' properties tell apart.
PLACES = 4
# Lengths that LZMA's length code can say.
MIN_MATCH, MAX_MATCH = 2, 273
# The bits that a 0 costs at each probability of it.
PRICES = [16.0, *(11 - log2(probability) for probability in range(1, ONE + 1))]

# The name of a probability and a bit; without a name, a bit that always costs one.
Decision = tuple[tuple | None, int]


class Model:
    """Adaptive probabilities of 0, by name, each 1/2 at first."""

    def __init__(self) -> None:
        self.probabilities: defaultdict[tuple, int] = defaultdict(lambda: ONE // 2)

    def price(self, decisions: Iterable[Decision]) -> float:
        """Returns the bits that decisions take."""
        total = 0.0
        for name, bit in decisions:
            probability = self.probabilities.get(name, ONE // 2) if name else ONE // 2
            total += PRICES[ONE - probability if bit else probability]
        return total


class RangeCoder:
    """Codes decisions, and adapts a model to them."""

    def __init__(self) -> None:
        self.model = Model()
        self._low, self._range, self._shifts = 0, 0xFFFFFFFF, 0

    def write(self, decisions: Iterable[Decision]) -> None:
        """Appends decisions."""
        probabilities = self.model.probabilities
        for name, bit in decisions:
            probability = probabilities[name] if name else ONE // 2
            bound = (self._range >> 11) * probability if name else self._range >> 1
            if bit:
                self._low += bound
            self._range = bound if not (bit and name) else self._range - bound
            if name:
                probabilities[name] += (
                    -(probability >> MOVE_BITS) if bit else (ONE - probability) >> MOVE_BITS
                )
            while self._range < TOP:
                self._range <<= 8
                self._low <<= 8
                self._shifts += 1

    def to_bytes(self) -> bytes:
        """Returns the stream: the zero byte that decoders expect, and the low end of the range."""
        return self._low.to_bytes(self._shifts + 5, "big")


def literal_decisions(window: bytes, place: int, state: int, rep0: int) -> Iterator[Decision]:
    """Yields a literal; after a match (states above 6), by the byte at distance `rep0` + 1."""
    yield ("is match", state, place % PLACES), 0
    expected = window[place - 1 - rep0] if state > 6 else None
    walked = 1
    for level in range(7, -1, -1):
        bit = window[place] >> level & 1
        guess = None if expected is None else expected >> level & 1
        yield (
            ("literal", place % PLACES, walked if guess is None else 256 * (1 + guess) + walked),
            bit,
        )
        walked = 2 * walked + bit
        expected = None if guess != bit else expected


def match_decisions(place: int, state: int, rep: int | None, size: int) -> Iterator[Decision]:
    """Yields what says which match follows: a new one, rep 0 to 3, or one byte from rep 0."""
    yield ("is match", state, place % PLACES), 1
    yield ("is rep", state), int(rep is not None)
    if rep is None:
        return
    yield ("is rep 0", state), int(rep > 0)
    if rep == 0:
        yield ("is rep 0 long", state, place % PLACES), int(size > 1)
        return
    yield ("is rep 1", state), int(rep > 1)
    if rep > 1:
        yield ("is rep 2", state), int(rep > 2)


def length_decisions(kind: str, place: int, size: int) -> Iterator[Decision]:
    """Yields a length, by probabilities of new matches ("match") or of repetitions ("rep")."""
    rest = size - MIN_MATCH
    yield (kind, "choice"), int(rest >= 8)
    if rest < 8:
        yield from _tree((kind, "low", place % PLACES), rest, 3)
        return
    yield (kind, "choice 2"), int(rest >= 16)
    if rest < 16:
        yield from _tree((kind, "mid", place % PLACES), rest - 8, 3)
    else:
        yield from _tree((kind, "high"), rest - 16, 8)


def distance_decisions(size: int, distance: int) -> Iterator[Decision]:
    """Yields the distance of a new match of `size` bytes."""
    value = distance - 1
    high = value.bit_length() - 1
    slot = value if value < 4 else 2 * high + (value >> (high - 1) & 1)
    yield from _tree(("slot", min(size - MIN_MATCH, 3)), slot, 6)
    if slot < 4:
        return
    rest, count = value & ((1 << (high - 1)) - 1), high - 1
    if slot < 14:
        yield from _reverse(("special", slot), rest, count)
        return
    for level in range(count - 1, 3, -1):
        yield None, rest >> level & 1
    yield from _reverse(("align",), rest & 15, 4)


def _tree(name: tuple, value: int, count: int) -> Iterator[Decision]:
    """Yields `count` bits, each by those above it."""
    walked = 1
    for level in range(count - 1, -1, -1):
        bit = value >> level & 1
        yield (*name, walked), bit
        walked = 2 * walked + bit


def _reverse(name: tuple, value: int, count: int) -> Iterator[Decision]:
    """Yields `count` bits, each by those below it."""
    walked = 1
    for level in range(count):
        bit = value >> level & 1
        yield (*name, walked), bit
        walked = 2 * walked + bit
