"""An LZMA encoder for small inputs that may refer to a dictionary before them.

Python's lzma cannot be given a dictionary, which is worth a sixth of a small model's literals. The
parse is the cheapest path over literals, repetitions and matches at the prices that the try before
ended with. It uses no library, so its output is the same everywhere.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .lzma_packets import (
    MAX_MATCH,
    MIN_MATCH,
    PLACES,
    Decision,
    Model,
    RangeCoder,
    distance_decisions,
    length_decisions,
    literal_decisions,
    match_decisions,
)

# Earlier places to compare at each place, which bounds the time per byte.
MATCHES_TRIED = 64
# Each parses by the prices that the one before ended with; the smallest result is kept.
TRIES = 4


@dataclass(frozen=True)
class _Node:
    """The cheapest way known to a position.

    Args:
        cost: bits from the start on.
        start: the position that its last packet starts from.
        size: bytes of that packet.
        distance: how far back they are, 0 for a literal.
        rep: which of the last four distances it is, None for a new one.
        state, reps: LZMA's state and last four distances, less one, after the packet.
    """

    cost: float
    start: int
    size: int = 0
    distance: int = 0
    rep: int | None = None
    state: int = 0
    reps: tuple[int, ...] = (0, 0, 0, 0)


def encode(before: bytes, data: bytes) -> bytes:
    """Returns `data` as one raw LZMA stream of lc 0, lp 2, pb 2, without an end marker.

    Args:
        before: what the window holds at first; its size is a multiple of 4.
        data: at least 1 byte. Takes about 0.3 ms per byte.
    """
    window = before + data
    matches = _all_matches(window, len(before))
    best, model = b"", Model()
    for _ in range(TRIES):
        coder = RangeCoder()
        nodes = _parse(window, len(before), matches, model)
        for last, node in pairwise(nodes):
            coder.write(_decisions(window, len(before) + node.start, node, last))
        found = coder.to_bytes()
        best = found if not best or len(found) < len(best) else best
        model = coder.model
    return best


def _all_matches(window: bytes, start: int) -> list[list[tuple[int, int]]]:
    """Returns the matches (size, distance) of each position from `start` on, ever longer ones."""
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
    window: bytes, start: int, matches: list[list[tuple[int, int]]], model: Model
) -> list[_Node]:
    """Returns the nodes on the cheapest path at the prices of `model`, from the start on."""
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

    def __init__(self, model: Model) -> None:
        self.model = model
        self._known: dict[tuple, float] = {}

    def length(self, kind: str, place: int, size: int) -> float:
        """Returns the bits of a length."""
        key = (kind, place % PLACES, size)
        if key not in self._known:
            self._known[key] = self.model.price(length_decisions(kind, place, size))
        return self._known[key]

    def distance(self, size: int, distance: int) -> float:
        """Returns the bits of a distance."""
        key = (min(size, 5), distance)
        if key not in self._known:
            self._known[key] = self.model.price(distance_decisions(size, distance))
        return self._known[key]


def _steps(
    window: bytes, place: int, node: _Node, matches: list[tuple[int, int]], prices: _Prices
) -> Iterator[tuple[int, int, int | None, float]]:
    """Yields (size, distance, rep, cost) of every way on from a position; the literal first."""
    price = prices.model.price
    yield 1, 0, None, price(literal_decisions(window, place, node.state, node.reps[0]))
    most = min(MAX_MATCH, len(window) - place)
    for rep, less_one in enumerate(node.reps):
        distance = less_one + 1
        size = _common(window, place - distance, place, most)
        if rep == 0 and size:
            yield 1, distance, 0, price(match_decisions(place, node.state, 0, 1))
        if size >= MIN_MATCH:
            head = price(match_decisions(place, node.state, rep, 2))
            for part in range(MIN_MATCH, size + 1):
                yield part, distance, rep, head + prices.length("rep", place, part)
    head, shortest = price(match_decisions(place, node.state, None, 2)), MIN_MATCH
    for size, distance in matches:
        for part in range(shortest, size + 1):
            cost = head + prices.length("match", place, part) + prices.distance(part, distance)
            yield part, distance, None, cost
        shortest = size + 1


def _after(node: _Node, size: int, distance: int, rep: int | None) -> tuple[int, tuple[int, ...]]:
    """Returns the state and the last four distances after a step."""
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
        yield from literal_decisions(window, place, last.state, last.reps[0])
        return
    yield from match_decisions(place, last.state, node.rep, node.size)
    if node.size > 1:
        yield from length_decisions("match" if node.rep is None else "rep", place, node.size)
    if node.rep is None:
        yield from distance_decisions(node.size, node.distance)
