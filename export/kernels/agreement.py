"""Output grids on which the runtimes of x86-64 and arm64 compute the same codes.

They round ties, and what comes within a float32 rounding of a tie, in their own ways. Moving the
output's scale by a few roundings moves every result off the ties.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..ir import Op, Quantization, Tensor
from . import multiply, pooling, tables
from .arithmetic import INT8_MAX, INT8_MIN
from .call import Call

# TensorFlow's, an older XNNPACK, is that of LiteRT until 2.1.
_MODES = ("f32", "arm64", "f32-tf")
# The first few attempts settle nearly every grid; on some none does, such as a product by exactly
# a power of two between equal grids.
_ATTEMPTS = 96
# Relative steps: a rounding of float32; that of a mean's sums, as large as its zero points make
# them; that of the 16-bit factors of HARD_SWISH.
_STEPS = {"MUL": 2.0**-23, "MEAN": 2.0**-16, "HARD_SWISH": 2.0**-15}
# A mean's results are listed by its sum: 64 MiB of them, for an image of 180 x 180 pixels.
_MOST_SUMS = 1 << 23
_CODES = np.arange(INT8_MIN, INT8_MAX + 1).astype(np.int8)


def agreeing_grid(op: Op, inputs: tuple[Tensor, ...], output: Tensor) -> Quantization:
    """Returns the output's grid, its scale moved until the runtimes agree on every input.

    Args:
        op: the operator. Only MUL, MEAN and HARD_SWISH have grids on which they part.
        inputs, output: its tensors.

    Returns:
        The grid; the one given where the runtimes agree already, or where no attempt helped.
    """
    assert output.quantization is not None
    grid = output.quantization
    for candidate in _candidates(op.kind, grid):
        moved = Tensor(output.name, output.shape, output.dtype, candidate)
        if not parts(op, inputs, moved):
            return candidate
    return grid


def parts(op: Op, inputs: tuple[Tensor, ...], output: Tensor) -> bool:
    """Returns whether the runtimes of x86-64 and arm64 part on an operator, for any input."""
    if op.kind == "SOFTMAX":
        return True
    answers = _ANSWERS.get(op.kind)
    if answers is None:
        return False
    found = [answers(Call(op, inputs, output, mode)) for mode in _MODES]
    return not all(np.array_equal(found[0], other) for other in found[1:])


def _candidates(kind: str, grid: Quantization) -> Iterator[Quantization]:
    yield grid
    for attempt in range(1, _ATTEMPTS if kind in _STEPS else 1):
        # 1 up, 1 down, 2 up, ...
        distance = (attempt + 1) // 2 * (1 if attempt % 2 else -1)
        scale = grid.scale.astype(np.float64) * (1 + distance * _STEPS[kind])
        yield Quantization(scale, grid.zero_point)


def _products(call: Call) -> np.ndarray:
    first, second = (
        _CODES if tensor.data is None else np.unique(tensor.data) for tensor in call.inputs
    )
    return multiply.mul(call, first[:, None], second[None])


def _means(call: Call) -> np.ndarray:
    axes = call.inputs[1].data
    assert axes is not None
    count = math.prod(call.inputs[0].shape[int(axis)] for axis in axes.ravel())
    if count * 255 > _MOST_SUMS:
        return np.zeros(0)
    return pooling.means_of_all_sums(call, count)


def _hard_swish(call: Call) -> np.ndarray:
    """Also portable code's answers, which arm64 takes for the last few elements."""
    return tables.hard_swish_table(call, neon=call.mode == "arm64")


_ANSWERS: dict[str, Callable[[Call], np.ndarray]] = {
    "HARD_SWISH": _hard_swish,
    "MEAN": _means,
    "MUL": _products,
}
