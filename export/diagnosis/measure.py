"""How far each tensor of the integer net is from the float net, and what becomes of its grid."""

from dataclasses import dataclass, replace

import numpy as np

from ..ir import Graph, Quantization
from ..simulator import simulate
from .reference import Place

# Codes at either end of the grid: what was beyond lies there too.
LOWEST_CODE, HIGHEST_CODE = -128, 127


@dataclass(frozen=True)
class TensorFigures:
    """One tensor of the integer net on the samples.

    Attributes:
        name: of the tensor, the path of the layer that computes it.
        kind: the operator that computes it; "INPUT" for an input of the model.
        spans: (channels,) how many steps of the grid each channel's codes go over.
        moving: (channels,) whether the float net's channel takes more than one value; all True
            without a reference.
        clipped: the fraction of the float net's values beyond the grid; None without a reference.
        at_ends: the fraction of codes at the grid's ends.
        snr_db: of the tensor against the float net; None without a reference.
        worst_channel_db: the same of the worst of its channels that move.
        own_snr_db: the same if everything before it were float: the error of this layer alone.
        scale: a step of the grid.
    """

    name: str
    kind: str
    spans: np.ndarray
    moving: np.ndarray
    clipped: float | None
    at_ends: float
    snr_db: float | None
    worst_channel_db: float | None
    own_snr_db: float | None
    scale: float


def snr_db(expected: np.ndarray, found: np.ndarray) -> float:
    r"""The signal-to-noise ratio in decibels, `10 log10(sum x^2 / sum (x - y)^2)`.

    Infinite where nothing differs, minus infinite for an error on silence.

    Example:
        >>> snr_db(np.float32([3, 4]), np.float32([3, 4.5]))
        20.0
    """
    signal = float(np.square(expected, dtype=np.float64).sum())
    noise = float(np.square(expected.astype(np.float64) - found).sum())
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


def tensor_figures(
    graph: Graph,
    places: dict[str, Place],
    values: dict[str, np.ndarray],
    expected: dict[Place, np.ndarray] | None,
) -> list[TensorFigures]:
    """Returns the figures of every tensor that an activation quantizer rounds, in order.

    Args:
        graph: the integer graph.
        places: by tensor, the place of its quantizer.
        values: of the samples, by input and computed tensor of the graph.
        expected: the float net's values by place; None without a reference.
    """
    names = [*graph.inputs, *(op.outputs[0] for op in graph.ops if op.outputs[0] in places)]
    kinds = {op.outputs[0]: op.kind for op in graph.ops}
    known = {
        name: expected[place]
        for name, place in places.items()
        if expected is not None and place in expected and name in names
    }
    found = []
    for name in names:
        codes = values[name]
        grid = graph.tensors[name].quantization
        if grid is None or codes.dtype != np.int8:
            continue
        float_values = known.get(name)
        figures = _figures(name, kinds.get(name, "INPUT"), codes, grid, float_values)
        if float_values is not None:
            figures = replace(figures, own_snr_db=_own_snr_db(graph, name, known))
        found.append(figures)
    return found


def _figures(
    name: str, kind: str, codes: np.ndarray, grid: Quantization, expected: np.ndarray | None
) -> TensorFigures:
    rows = codes.reshape(-1, codes.shape[-1])
    spans = rows.max(0).astype(np.int64) - rows.min(0)
    ends = (codes == HIGHEST_CODE) | ((codes == LOWEST_CODE) & (grid.zero_point != LOWEST_CODE))
    clipped, ratio, worst, moving = None, None, None, np.ones(len(spans), bool)
    if expected is not None and expected.size == codes.size:
        values = expected.reshape(codes.shape)
        # Half a step beyond the outermost codes still rounds to them.
        low, high = (code - grid.zero_point for code in (LOWEST_CODE - 0.5, HIGHEST_CODE + 0.5))
        steps = values / grid.scale[0]
        below = (steps < low) & (grid.zero_point != LOWEST_CODE)  # what a ReLU cuts is not lost
        clipped = float(((steps > high) | below).mean())
        cut, real = _kept(values, grid), real_values(codes, grid)
        ratio = snr_db(cut, real)
        wanted, got = (x.reshape(-1, codes.shape[-1]).T for x in (cut, real))
        moving = wanted.max(1) > wanted.min(1)
        channels = zip(wanted[moving], got[moving], strict=True)
        worst = min((snr_db(*channel) for channel in channels), default=None)
    at_ends = float(ends.mean())
    return TensorFigures(
        name, kind, spans, moving, clipped, at_ends, ratio, worst, None, float(grid.scale[0])
    )


def real_values(codes: np.ndarray, grid: Quantization) -> np.ndarray:
    """Returns codes in their own units."""
    return (codes.astype(np.float32) - grid.zero_point) * grid.scale[0]


def _own_snr_db(graph: Graph, name: str, known: dict[str, np.ndarray]) -> float | None:
    """The ratio of one tensor with the float net's values in all known tensors before it."""
    expected = known[name]
    if name in graph.inputs:
        return None
    ops, wanted, sources = [], {name}, set()
    for op in reversed(graph.ops):
        if op.outputs[0] not in wanted:
            continue
        ops.append(op)
        for source in op.inputs:
            if graph.tensors[source].data is not None:
                continue
            if source in graph.inputs or source in known:
                sources.add(source)
            else:
                wanted.add(source)
    if not sources <= set(known):
        return None
    inputs = {source: _codes(graph, source, known[source]) for source in sources}
    part = replace(graph, ops=ops[::-1], inputs=list(inputs), outputs=[name])
    found = simulate(part, inputs, keep={name})[name]
    grid = graph.tensors[name].quantization
    if grid is None or found.size != expected.size:
        return None
    values = expected.reshape(found.shape)
    return snr_db(_kept(values, grid), real_values(found, grid))


def _kept(values: np.ndarray, grid: Quantization) -> np.ndarray:
    """Float values less what a ReLU that the grid stands for takes away."""
    return np.maximum(values, 0) if grid.zero_point == LOWEST_CODE else values


def _codes(graph: Graph, name: str, values: np.ndarray) -> np.ndarray:
    tensor = graph.tensors[name]
    grid = tensor.quantization
    assert grid is not None
    codes = np.rint(values / grid.scale[0]) + grid.zero_point
    shaped = codes.reshape(len(values), *tensor.shape[1:])
    return np.clip(shaped, LOWEST_CODE, HIGHEST_CODE).astype(np.int8)
