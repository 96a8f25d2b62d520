"""An LZMA encoder (Igor Pavlov's format) for small inputs that may refer to a dictionary before
them.

Python's lzma cannot be given a dictionary, which is worth a sixth of a small model's literals. The
parse is the cheapest path over literals, repetitions and matches at the prices that the try before
ended with. It uses no library, so its output is the same everywhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import log2

ONE = 1 << 11
MOVE_BITS = 5
TOP = 1 << 24
PLACES = 4
MIN_MATCH, MAX_MATCH = 2, 273
MATCHES_TRIED = 64
TRIES = 4
# The bits that a 0 costs at each probability of it.
PRICES = [16.0, *(11 - log2(probability) for probability in range(1, ONE + 1))]

# The name of a probability and a bit; without a name, a bit that always costs one.
Decision = tuple[tuple | None, int]


@dataclass(frozen=True)
class _Node:
    """The cheapest way known to a position: from which one, by how many bytes from how far back, 0
    for a literal.

    `rep` is which of the last four distances it is, None for a new one. `state` and `reps` are
    those behind it; distances in `reps` are less one.
    """

    cost: float
    start: int
    size: int = 0
    distance: int = 0
    rep: int | None = None
    state: int = 0
    reps: tuple[int, ...] = (0, 0, 0, 0)


class _Model:
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


class _RangeCoder:
    """Codes decisions, and adapts a model to them."""

    def __init__(self) -> None:
        self.model = _Model()
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
        """Returns the stream: all of the low end of the range, behind the zero byte that decoders
        expect.
        """
        return self._low.to_bytes(self._shifts + 5, "big")


def encode(before: bytes, data: bytes) -> bytes:
    """Returns `data` as one raw LZMA stream of lc 0, lp 2, pb 2, without an end marker.

    Args:
        before: what the window holds at first; its size is a multiple of 4.
        data: at least 1 byte. Some 0.3 ms a byte.
    """
    window = before + data
    matches = _all_matches(window, len(before))
    best, model = b"", _Model()
    for _ in range(TRIES):
        coder = _RangeCoder()
        nodes = _parse(window, len(before), matches, model)
        for last, node in pairwise(nodes):
            coder.write(_decisions(window, len(before) + node.start, node, last))
        found = coder.to_bytes()
        best = found if not best or len(found) < len(best) else best
        model = coder.model
    return best


def _all_matches(window: bytes, start: int) -> list[list[tuple[int, int]]]:
    """Returns for each position from `start` on the (size, distance) of matches, ever longer and
    farther.
    """
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    matches: list[list[tuple[int, int]]] = []
    for place in range(len(window)):
        key = window[place : place + MIN_MATCH]
        if place >= start:
            most = min(MAX_MATCH, len(window) - place)
            found, longest = [], MIN_MATCH - 1
            for earlier in reversed(places[key][-MATCHES_TRIED:]):
                size = _common(window, earlier, place, most)
                if size > longest:
                    found.append((size, place - earlier))
                    longest = size
                    if size == most:
                        break
            matches.append(found)
        places[key].append(place)
    return matches


def _common(window: bytes, one: int, other: int, most: int) -> int:
    size = 0
    while size < most and window[one + size] == window[other + size]:
        size += 1
    return size


def _parse(
    window: bytes, start: int, matches: list[list[tuple[int, int]]], model: _Model
) -> list[_Node]:
    """Returns the nodes on the cheapest path at the prices of `model`, the first being the start."""
    nodes: list[_Node | None] = [_Node(0.0, 0), *([None] * len(matches))]
    prices = _Prices(model)
    for place in range(len(matches)):
        node = nodes[place]
        assert node
        for step in _steps(window, start + place, node, matches[place], prices):
            size, distance, rep, cost = step
            known = nodes[place + size]
            if known is None or node.cost + cost < known.cost:
                state, reps = _after(node, size, distance, rep)
                nodes[place + size] = _Node(
                    node.cost + cost, place, size, distance, rep, state, reps
                )
    path = [nodes[-1]]
    while path[-1] and path[-1] is not nodes[0]:
        path.append(nodes[path[-1].start])
    return [node for node in reversed(path) if node]


class _Prices:
    """Prices of lengths and distances, which come up again and again."""

    def __init__(self, model: _Model) -> None:
        self.model = model
        self._known: dict[tuple, float] = {}

    def length(self, kind: str, place: int, size: int) -> float:
        """Returns the bits of a length."""
        key = (kind, place % PLACES, size)
        if key not in self._known:
            self._known[key] = self.model.price(_length(kind, place, size))
        return self._known[key]

    def distance(self, size: int, distance: int) -> float:
        """Returns the bits of a distance."""
        key = (min(size, 5), distance)
        if key not in self._known:
            self._known[key] = self.model.price(_distance(size, distance))
        return self._known[key]


def _steps(
    window: bytes, place: int, node: _Node, matches: list[tuple[int, int]], prices: _Prices
) -> Iterator[tuple[int, int, int | None, float]]:
    """Yields (size, distance, rep, cost) of every way on from a position; the literal first."""
    price = prices.model.price
    yield 1, 0, None, price(_literal(window, place, node))
    most = min(MAX_MATCH, len(window) - place)
    for rep, less_one in enumerate(node.reps):
        distance = less_one + 1
        size = _common(window, place - distance, place, most)
        if rep == 0 and size:
            yield 1, distance, 0, price(_kind(place, node.state, 0, 1))
        if size >= MIN_MATCH:
            head = price(_kind(place, node.state, rep, 2))
            for length in range(MIN_MATCH, size + 1):
                yield length, distance, rep, head + prices.length("rep", place, length)
    head, shortest = price(_kind(place, node.state, None, 2)), MIN_MATCH
    for size, distance in matches:
        for length in range(shortest, size + 1):
            cost = head + prices.length("match", place, length) + prices.distance(length, distance)
            yield length, distance, None, cost
        shortest = size + 1


def _after(node: _Node, size: int, distance: int, rep: int | None) -> tuple[int, tuple[int, ...]]:
    """Returns the state and the last four distances behind a step."""
    state, reps = node.state, node.reps
    if distance == 0:
        return (0 if state < 4 else state - 3 if state < 10 else state - 6), reps
    if rep is None:
        return (7 if state < 7 else 10), (distance - 1, *reps[:3])
    moved = (reps[rep], *reps[:rep], *reps[rep + 1 :])
    return ((9 if size == 1 else 8) if state < 7 else 11), moved


def _decisions(window: bytes, place: int, node: _Node, last: _Node) -> Iterator[Decision]:
    """Yields the decisions of the step from `last` to `node`."""
    if node.distance == 0:
        yield from _literal(window, place, last)
        return
    yield from _kind(place, last.state, node.rep, node.size)
    if node.size > 1:
        yield from _length("match" if node.rep is None else "rep", place, node.size)
    if node.rep is None:
        yield from _distance(node.size, node.distance)


def _literal(window: bytes, place: int, node: _Node) -> Iterator[Decision]:
    yield ("is match", node.state, place % PLACES), 0
    expected = window[place - 1 - node.reps[0]] if node.state > 6 else None
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


def _kind(place: int, state: int, rep: int | None, size: int) -> Iterator[Decision]:
    """Yields what says that a match of one of four kinds, or one byte from rep 0, follows."""
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


def _length(kind: str, place: int, size: int) -> Iterator[Decision]:
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


def _distance(size: int, distance: int) -> Iterator[Decision]:
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
    walked = 1
    for level in range(count - 1, -1, -1):
        bit = value >> level & 1
        yield (*name, walked), bit
        walked = 2 * walked + bit


def _reverse(name: tuple, value: int, count: int) -> Iterator[Decision]:
    walked = 1
    for level in range(count):
        bit = value >> level & 1
        yield (*name, walked), bit
        walked = 2 * walked + bit
