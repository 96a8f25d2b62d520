"""Functions of a single number: a table of 256 entries, and what has an operator."""

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.graph.functions import FUNCTIONS_OF_ONE, Function, function_of_one

from ..ir import Quantization
from ..kernels.arithmetic import INT8_MAX, INT8_MIN
from .affine import affine
from .builder import Builder, Open, Value
from .common import Lowering
from .shapes import static_shape


def _table(builder: Builder, node: Node) -> Value:
    function = function_of_one(node.operation)
    if function is None:
        raise ModelError(
            node.path,
            "a power has an integer form if the exponent or the base is a number",
            received=str([edge.shape for edge in node.inputs]),
        )
    source, shape = (
        builder.integer(node.inputs[0], node.path),
        static_shape(node.outputs[0], node.path),
    )

    def emit(builder: Builder, grid: Quantization) -> str:
        codes = np.arange(INT8_MIN, INT8_MAX + 1)
        return _looked_up(
            builder, source, _answers(function, codes, builder.grid(source), grid), grid, node.path
        )

    return Open("GATHER", (source,), shape, node.path, emit=emit)


def _answers(
    function: Function, codes: np.ndarray, source: Quantization, target: Quantization
) -> np.ndarray:
    """Returns the code of a function's value at every code; infinities take the ends."""
    with np.errstate(all="ignore"):
        values = function((codes - source.zero_point) * source.scale.astype(np.float64))
    steps = np.rint(values / target.scale.astype(np.float64)) + target.zero_point
    return np.clip(np.nan_to_num(steps), INT8_MIN, INT8_MAX).astype(np.int8)


def _looked_up(
    builder: Builder, source: str, answers: np.ndarray, grid: Quantization, path: str
) -> str:
    """Emits GATHER by the code plus 128: no runtime rounds anything."""
    shape = builder.shape(source)
    index = builder.tensor(f"{path}/code", shape, None, "int32")
    builder.emit("CAST", (source,), index)
    first = builder.constant("int8_codes_below_zero", np.array([-INT8_MIN], np.int32))
    place = builder.emit(
        "ADD", (index, first), builder.tensor(f"{path}/place", shape, None, "int32")
    )
    table = builder.constant(f"{path}/table", answers, grid)
    output = builder.emit("GATHER", (table, place), builder.tensor(path, shape, grid), axis=0)
    builder.lowest[output] = int(answers.min())
    return output


def _quotient(builder: Builder, node: Node) -> Value:
    if function_of_one(node.operation) is None:
        return affine(builder, node)
    return _table(builder, node)


def _absolute(builder: Builder, node: Node) -> Value:
    """PRELU with a slope of -1: it rounds alike in all runtimes, which ABS does not."""
    source = builder.integer(node.inputs[0], node.path)
    grid = Quantization(np.array(1 / 64))
    slope = builder.constant(f"{node.path}/slope", np.array([-64], np.int8), grid)
    return Open("PRELU", (source, slope), static_shape(node.outputs[0], node.path), node.path)


def _square(builder: Builder, node: Node) -> Value:
    source = builder.integer(node.inputs[0], node.path)
    return Open("MUL", (source, source), static_shape(node.outputs[0], node.path), node.path)


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys((*FUNCTIONS_OF_ONE, "Power"), _table),
    "Absolute": _absolute,
    "Square": _square,
    **dict.fromkeys(("Divide", "TrueDivide"), _quotient),
}
