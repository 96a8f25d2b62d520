"""Grids at powers of two for activations, so that nothing but products is rounded."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tfqreg.errors import ModelError

from ..ir import Graph, Op, Quantization
from ..kernels.agreement import parts


class Inputs(NamedTuple):
    """The positions of an operator's image, weights and bias."""

    source: int
    weights: int
    bias: int


PRODUCTS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), Inputs(0, 1, 2)),
    "TRANSPOSE_CONV": Inputs(2, 1, 3),
}
# All int8 tensors of these lie on one grid, constants too. MEAN becomes an AVERAGE_POOL_2D.
_ONE_GRID = (
    *(
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "PAD",
    ),
    *("REDUCE_MAX", "REDUCE_MIN", "REVERSE_V2"),
    *("RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SPACE_TO_DEPTH", "STRIDED_SLICE", "TRANSPOSE"),
)
# Exact where an input's step is a multiple of the output's.
_WHOLE_STEPS = ("ADD", "QUANTIZE", "RELU", "RELU6", "SUB")
FUSES_RELU = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SUB")
_LARGEST_RATIO = 6  # log2; XNNPACK takes an input's step below 128 times the output's
_LARGEST_SCALE_FOR_6 = 1  # log2; 6 is a whole number of such steps
# A range may lose this fraction of itself, in log2: 1/255, the scale of images, is then 1/256.
_CLIPPED = 0.01
# Steps of a zero point, 1.6 % of the range at most.
_MOVES = (0, -1, 1, -2, 2, -3, 3, -4, 4)
_REMEDIES = {"SOFTMAX": "Leave it out: the largest score stays the largest"}


@dataclass
class _Class:
    """Tensors on one grid.

    Their range, the exponent of their scale, whether int8's lowest code has to clip, and how far
    the zero point is moved.
    """

    bottom: float
    top: float
    clips: bool = False
    exponent: int = 0
    moved: int = 0

    def raise_bottom(self, value: float) -> None:
        """Starts the range at `value`, if that leaves any."""
        if value < self.top:
            self.bottom = max(self.bottom, value)


def portable_grids(graph: Graph) -> dict[str, Quantization]:
    """Returns a grid for every activation.

    A scale is the smallest power of two that covers the range in use; an addition may ask for a
    larger one. The highest code keeps its value, so that a trained clip stays where it was.

    Raises:
        ModelError: for an operator that cannot be portable.
    """
    for op in graph.ops:
        _check(graph, op)
    classes = _classes(graph)
    for found in classes.values():
        found.exponent = math.ceil(math.log2((found.top - found.bottom) / 255) - _CLIPPED)
    _coarsen(graph, classes)
    swishes = [op for op in graph.ops if op.kind == "HARD_SWISH"]
    for op in swishes:
        _agree(graph, op, classes)
    for op in graph.ops:
        relu6 = "RELU6" in (op.kind, op.attributes.get("activation"))
        exponent = classes[op.outputs[0]].exponent
        if relu6 and exponent > _LARGEST_SCALE_FOR_6:
            raise ModelError(
                op.outputs[0],
                f"{op.kind} has no portable form: 6 is no whole number of its steps",
                "Use ReLU without a maximum",
                f"scale={2**exponent}",
            )
    for op in swishes:
        if _meets_ties(graph, op, classes):
            raise ModelError(
                op.outputs[0],
                "HARD_SWISH has no portable form on this grid: processors round its ties in "
                "their own ways, and other operators share the grid",
                "Use ReLU, or export with portable=False",
                f"scale={2.0 ** classes[op.outputs[0]].exponent:g}",
            )
    return {name: _grid(found) for name, found in classes.items()}


def _agree(graph: Graph, op: Op, classes: dict[str, _Class]) -> None:
    """Moves the grid of a HARD_SWISH until no processor meets a tie in it.

    First its zero point, then its scale, to the next power of two.
    """
    found = classes[op.outputs[0]]
    if found.clips or found.moved or not _meets_ties(graph, op, classes):
        return
    exponent = found.exponent
    for found.exponent in (exponent, exponent + 1):
        for found.moved in _MOVES:
            if not _meets_ties(graph, op, classes):
                _coarsen(graph, classes)
                return


def _meets_ties(graph: Graph, op: Op, classes: dict[str, _Class]) -> bool:
    source, target = (
        replace(graph.tensors[name], quantization=_grid(classes[name]))
        for name in (op.inputs[0], op.outputs[0])
    )
    return parts(op, (source,), target)


def _check(graph: Graph, op: Op) -> None:
    if "float32" in (graph.tensors[name].dtype for name in (*op.inputs, *op.outputs)):
        raise ModelError(
            op.outputs[0],
            f"{op.kind} of float32 has no portable form",
            "Export with float_io=False",
        )
    pooled = op.kind != "MEAN" or (
        len(graph.tensors[op.inputs[0]].shape) == 4 and _axes(graph, op) == [1, 2]
    )
    if op.kind not in (*_ONE_GRID, *_WHOLE_STEPS, *PRODUCTS, "HARD_SWISH") or not pooled:
        remedy = _REMEDIES.get(op.kind, "Replace it, or export with portable=False")
        raise ModelError(
            op.outputs[0], f"{op.kind} has no portable form: interpreters differ in it", remedy
        )


def _axes(graph: Graph, op: Op) -> list[int]:
    axes = graph.tensors[op.inputs[1]].data
    return [] if axes is None else sorted(int(axis) % 4 for axis in axes.ravel())


def _classes(graph: Graph) -> dict[str, _Class]:
    """Returns the class of every activation; those on one grid share the object."""
    classes = {name: _own(graph, name) for name in graph.inputs}
    for found in classes.values():
        found.clips = found.bottom == 0
    for op in graph.ops:
        output = op.outputs[0]
        if op.kind not in _ONE_GRID:
            found = classes[output] = _own(graph, output)
            if "RELU" in op.kind or op.attributes.get("activation", "NONE") != "NONE":
                found.raise_bottom(0.0)
            found.clips = found.bottom == 0 and op.kind not in (*FUSES_RELU, "RELU", "RELU6")
            continue
        sources = [classes[name] for name in op.inputs if name in classes]
        if op.kind == "MAXIMUM" and len(sources) == 1:
            sources[0].raise_bottom(_lowest(graph, op))
        first = sources[0]
        for other in sources[1:]:
            first.bottom, first.top = min(first.bottom, other.bottom), max(first.top, other.top)
            first.clips |= other.clips
            classes.update({name: first for name, found in classes.items() if found is other})
        classes[output] = first
    return classes


def _own(graph: Graph, name: str) -> _Class:
    """Returns the range of a tensor's own grid."""
    grid = graph.tensors[name].quantization
    assert grid is not None
    scale = float(grid.scale[0])
    return _Class((-128 - grid.zero_point) * scale, (127 - grid.zero_point) * scale)


def _lowest(graph: Graph, op: Op) -> float:
    """Returns the value at which a MAXIMUM clips."""
    constant = next(
        graph.tensors[name] for name in op.inputs if graph.tensors[name].data is not None
    )
    assert constant.data is not None and constant.quantization is not None
    return float(
        (constant.data.min() - float(constant.quantization.zero_point))
        * constant.quantization.scale[0]
    )


def _coarsen(graph: Graph, classes: dict[str, _Class]) -> None:
    """Raises exponents until every addition rounds nothing.

    Its inputs are then as coarse as its output, and not coarser than it takes.
    """
    changed = True
    while changed:
        changed = False
        for op in reversed(graph.ops):
            target = classes[op.outputs[0]]
            for name in op.inputs if op.kind in _WHOLE_STEPS else ():
                source = classes.get(name, target)
                if source.exponent < target.exponent:
                    source.exponent, changed = target.exponent, True
                if target.exponent < source.exponent - _LARGEST_RATIO:
                    target.exponent, changed = source.exponent - _LARGEST_RATIO, True


def _grid(found: _Class) -> Quantization:
    scale = 2.0**found.exponent
    zero_point = (
        -128 - round(found.bottom / scale) if found.clips else 127 - round(found.top / scale)
    )
    return Quantization(np.array(scale), max(zero_point + found.moved, -128))
