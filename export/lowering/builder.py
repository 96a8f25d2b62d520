"""The state of a lowering: the graph so far, and what each edge has become.

That is an int8 tensor, or the operator still open on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Edge
from tfqreg.layers import ActivationQuantizer

from ..ir import Attribute, Graph, Op, Quantization, Tensor
from ..kernels.agreement import agreeing_grid
from ..kernels.arithmetic import INT8_MAX, INT8_MIN, activation_bounds
from .fold import FoldedWeights, integer_weights
from .shapes import image_shape

# Their inputs and output are on one grid.
SHARES_GRID = ("CONCATENATION", "MAXIMUM", "MINIMUM")
# Their int8 operators clip at an activation themselves.
_FUSES_RELU = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB")

# In steps of the output. XNNPACK takes sums and products below 256 of them, HARD_SWISH below 128;
# the rest is room for rounding.
_COARSEST_INPUT, _COARSEST_HARD_SWISH = 250, 100


@dataclass(frozen=True)
class Open:
    """An operator that waits for its output grid.

    `weights` belong to what has a kernel; `low` and `high` are the least and the most that it lets
    through, if its activation does not say; `gain` is the tensor, and the number, whose product is
    all that it computes: what follows may do it instead; `emit` adds what is no single operator.
    """

    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    name: str
    attributes: dict[str, Attribute] = field(default_factory=dict)
    weights: FoldedWeights | None = None
    activation: str = "NONE"
    pools: tuple["Pool", ...] = ()
    high: float | None = None
    gain: tuple[str, float] | None = None
    low: float | None = None
    emit: Callable[["Builder", Quantization], str] | None = None

    @property
    def is_bare(self) -> bool:
        """Whether nothing clips or pools it yet."""
        return self.activation == "NONE" and self.low is self.high is None and not self.pools


@dataclass(frozen=True)
class Pool:
    """A maximum pool after an open operator: it keeps the grid, and rounding commutes with it.

    `source` and `shape` are those of the images it reads and writes.
    """

    name: str
    source: tuple[int, ...]
    shape: tuple[int, ...]
    attributes: dict[str, Attribute]


Value = str | Open  # the name of an int8 tensor, or an operator still open


class Builder:
    """Adds tensors and operators to `graph`.

    `values` holds what each edge of the Keras graph has become.

    `scale_dtype` is what the scales of weights are rounded to, "float32" or "bfloat16".
    `lowest` holds the lowest code of the tensors that cannot reach -128, `unshaped` what a RESHAPE
    was made from, `unpadded` what a PAD was, and by how much.
    """

    def __init__(self, scale_dtype: str = "float32") -> None:
        self.graph = Graph(scale_dtype=scale_dtype)
        self.scale_dtype = scale_dtype
        self.values: dict[Edge, Value] = {}
        self.lowest: dict[str, int] = {}
        self.unshaped: dict[str, str] = {}
        self.unpadded: dict[str, tuple[str, np.ndarray]] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], grid: Quantization | None, dtype: str = "int8"
    ) -> str:
        """Adds an activation, under a name of its own."""
        taken = self.graph.tensors
        count = 1
        unique = name
        while unique in taken:
            unique, count = f"{name}_{count}", count + 1
        return self.graph.add(Tensor(unique, shape, dtype, grid))

    def constant(
        self,
        name: str,
        data: np.ndarray,
        grid: Quantization | None = None,
        bits: int = 8,
        shift: int = 0,
    ) -> str:
        """Adds a constant, or returns the name of the equal one that is there."""
        present = self.graph.tensors.get(name)
        if present is None:
            return self.graph.add(
                Tensor(name, data.shape, str(data.dtype), grid, data, bits, shift)
            )
        equal = (
            present.data is not None
            and present.dtype == data.dtype
            and np.array_equal(present.data, data)
            and same(present.quantization, grid)
        )
        # A layer that is called twice may meet two grids: the same weights with another bias.
        return name if equal else self.constant(f"{name}'", data, grid, bits, shift)

    def emit(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Attribute) -> str:
        """Adds an operator and returns its output."""
        self.graph.ops.append(Op(kind, inputs, (output,), attributes))
        return output

    def integer(self, edge: Edge, needed_by: str) -> str:
        """Returns the int8 tensor of an edge; raises ModelError if it is still open."""
        value = self.values[edge]
        if not isinstance(value, Open) and self.graph.tensors[value].dtype != "int8":
            raise ModelError(
                needed_by,
                "it computes with int8 codes",
                "End the model at the argmax",
                f"{value} of {self.graph.tensors[value].dtype}",
            )
        if isinstance(value, Open):
            raise ModelError(
                value.name,
                f"its output is not quantized, and {needed_by} needs integers",
                "Put a tfqreg.QuantizedActivation after it; tfqreg.quantize(model) places them all",
            )
        return value

    def grid(self, name: str) -> Quantization:
        """Returns the grid of an int8 tensor."""
        quantization = self.graph.tensors[name].quantization
        assert quantization is not None
        return quantization

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self.graph.tensors[name].shape

    def moved(
        self,
        kind: str,
        name: str,
        shape: tuple[int, ...],
        output: str,
        /,
        *constants: str,
        **attributes: Attribute,
    ) -> str:
        """Emits an operator whose output stays on its input's grid."""
        moved = self.tensor(output, shape, self.grid(name))
        self.lowest[moved] = self.lowest.get(name, -128)
        return self.emit(kind, (name, *constants), moved, **attributes)

    def reshaped(self, name: str, shape: tuple[int, ...], stem: str = "") -> str:
        """Returns a tensor in another shape; of several RESHAPEs in a row the last one stays."""
        name = self.unshaped.get(name, name)
        if self.shape(name) == shape:
            return name
        for output, source in self.unshaped.items():
            if source == name and self.shape(output) == shape:
                return output
        output = self.moved("RESHAPE", name, shape, stem or name, shape=shape)
        self.unshaped[output] = name
        return output

    def image(self, name: str) -> str:
        """Returns a tensor as a batch of images (1, height, width, channels)."""
        return self.reshaped(name, image_shape(self.shape(name)))

    def quantized(self, value: Value, layer: ActivationQuantizer) -> str:
        """Gives an open operator its output grid, or moves a tensor to another grid."""
        grid, low = grid_of(layer), layer.encode()[1]
        if isinstance(value, Open):
            if (
                layer.bits < 8
                and low == 0
                and value.activation == "NONE"
                and value.kind not in SHARES_GRID
                and value.emit is None
            ):
                # It clamps at the zero point, the lowest code.
                value = replace(value, activation="RELU")
            # A quantizer that is called twice makes two tensors equal in their grids.
            name = self.close(value, grid, movable=len(layer._inbound_nodes) == 1)
            if value.activation != "NONE":
                self.lowest[name] = grid.zero_point
        else:
            name = self.requantized(value, grid)
        return self.clipped(name, low)

    def requantized(self, name: str, grid: Quantization) -> str:
        """Returns a tensor on another grid."""
        if same(self.grid(name), grid):
            return name
        ratio = self.grid(name).scale[0] / grid.scale[0]
        # Below XNNPACK's range, in which operators round ties each in their own way.
        if 1 / 512 <= ratio < 1 / 256:
            name = self.requantized(name, Quantization(grid.scale / 16, grid.zero_point))
        return self.emit("QUANTIZE", (name,), self.tensor(name, self.shape(name), grid))

    def clipped(self, name: str, low: int) -> str:
        """Clips a tensor at the lower end of a grid of fewer than 8 bits.

        Its upper end is int8's own.
        """
        grid = self.grid(name)
        code = grid.zero_point + low
        if self.lowest.get(name, -128) >= code:
            return name
        output = self.extremum(
            "MAXIMUM", name, np.array([low * grid.scale[0]]), self.shape(name), name, "lowest"
        )
        self.lowest[output] = code
        return output

    def extremum(
        self,
        kind: str,
        name: str,
        bound: np.ndarray,
        shape: tuple[int, ...],
        output: str,
        constant: str = "bound",
    ) -> str:
        """Emits a MAXIMUM or MINIMUM with a constant.

        The constant is rounded to the tensor's grid, on which the output stays.
        """
        grid = self.grid(name)
        codes = np.clip(
            np.rint(bound / grid.scale.astype(np.float64)) + grid.zero_point, INT8_MIN, INT8_MAX
        )
        codes = np.atleast_1d(codes).astype(np.int8)
        bounds = self.constant(f"{output}/{constant}", codes, grid)
        return self.emit(kind, (name, bounds), self.tensor(output, shape, grid))

    def close(self, value: Open, grid: Quantization, movable: bool = False) -> str:
        """Emits an open operator, with its output on a grid, and the clips and pools after it.

        A `movable` grid may become another by a few roundings of its scale.
        """
        name = value.emit(self, grid) if value.emit else self._emitted(value, grid, movable)
        grid = self.grid(name)
        for kind, bound in (("MAXIMUM", value.low), ("MINIMUM", value.high)):
            name = name if bound is None else self._bounded(kind, name, bound, value.name)
        for pool in value.pools:
            source = self.reshaped(name, pool.source)
            name = self.emit(
                "MAX_POOL_2D",
                (source,),
                self.tensor(pool.name, pool.shape, grid),
                **pool.attributes,
            )
        return name

    def _bounded(self, kind: str, name: str, bound: float, output: str) -> str:
        """Returns a tensor clipped at a number, itself if the ends of its grid do that."""
        grid = self.grid(name)
        code = np.rint(bound / grid.scale[0]) + grid.zero_point
        if code >= INT8_MAX if kind == "MINIMUM" else code <= self.lowest.get(name, INT8_MIN):
            return name
        constant = "highest" if kind == "MINIMUM" else "lowest"
        clipped = self.extremum(kind, name, np.array([bound]), self.shape(name), output, constant)
        self.lowest[clipped] = int(
            self.lowest.get(name, INT8_MIN) if kind == "MINIMUM" else min(code, INT8_MAX)
        )
        return clipped

    def _emitted(self, value: Open, grid: Quantization, movable: bool) -> str:
        inputs, attributes = value.inputs, dict(value.attributes)
        kind, activation = (_within_int32(name, grid) for name in (value.kind, value.activation))
        if kind in SHARES_GRID:
            inputs = tuple(self.requantized(name, grid) for name in inputs)
        inputs = self._fine_enough(kind, inputs, grid)
        if value.weights is not None:
            inputs = (*inputs, *self._weights(value, value.weights, grid))
        if kind == "TRANSPOSE_CONV":
            size = self.constant(f"{value.name}/shape", np.array(value.shape, np.int32))
            inputs = (size, inputs[1], inputs[0], inputs[2])
        fuses = kind in _FUSES_RELU
        if fuses:
            attributes["activation"] = activation
        if movable:
            grid = self._agreeing(Op(kind, inputs, (value.name,), attributes), value.shape, grid)
        if kind == "RELU" and self._saturates_at_zero(inputs[0], grid):
            name, activation = self.requantized(inputs[0], grid), "NONE"
        else:
            name = self.emit(kind, inputs, self.tensor(value.name, value.shape, grid), **attributes)
        if kind in SHARES_GRID:
            self.lowest[name] = min(self.lowest.get(source, -128) for source in inputs)
        inert = activation == "NONE" or activation_bounds(activation, grid) == (INT8_MIN, INT8_MAX)
        if not fuses and not inert and activation != kind:
            name = self.emit(activation, (name,), self.tensor(value.name, value.shape, grid))
        return name

    def _agreeing(self, op: Op, shape: tuple[int, ...], grid: Quantization) -> Quantization:
        """The grid of an operator's output, on which the runtimes agree if such a one is near."""
        inputs = tuple(self.graph.tensors[name] for name in op.inputs)
        return agreeing_grid(op, inputs, Tensor(op.outputs[0], shape, "int8", grid))

    def _saturates_at_zero(self, source: str, grid: Quantization) -> bool:
        """Whether QUANTIZE to the grid is a ReLU: XNNPACK takes the one, and not the other.

        On an input of the model it might be no operator at all, and the input an output.
        """
        in_reach = self.grid(source).scale[0] < 128 * grid.scale[0]
        return in_reach and grid.zero_point == INT8_MIN and source not in self.graph.inputs

    def _fine_enough(
        self, kind: str, inputs: tuple[str, ...], grid: Quantization
    ) -> tuple[str, ...]:
        """The inputs of an operator, on finer grids if they are too coarse for a runtime.

        XNNPACK's sums and products overflow at 256 times the output's scale, HARD_SWISH is refused
        at 128. So coarse is a branch of zeros, whose scale is any; what saturates saturates the
        output as well.
        """
        if kind in ("ADD", "SUB"):
            return tuple(self._finer(name, _COARSEST_INPUT * grid.scale) for name in inputs)
        if kind == "MUL":
            largest = _COARSEST_INPUT * grid.scale / self.grid(inputs[1]).scale
            return self._finer(inputs[0], largest), inputs[1]
        if kind == "HARD_SWISH":
            return (self._finer(inputs[0], _COARSEST_HARD_SWISH * grid.scale),)
        return inputs

    def _finer(self, name: str, largest: np.ndarray) -> str:
        source = self.grid(name)
        parts = np.ceil(source.scale / largest)
        return self.requantized(name, Quantization(source.scale / parts, source.zero_point))

    def _weights(self, value: Open, weights: FoldedWeights, grid: Quantization) -> tuple[str, str]:
        source = self.grid(value.inputs[0])
        ends = float(source.scale[0]), float(grid.scale[0])
        data, scale, shift, bias = integer_weights(weights, *ends, self.scale_dtype)
        kernel_grid = Quantization(scale, axis=weights.channel_axis)
        kernel = self.constant(f"{value.name}/kernel", data, kernel_grid, weights.bits, shift)
        return kernel, self.constant(f"{value.name}/bias", bias, Quantization(source.scale * scale))


def _within_int32(kind: str, grid: Quantization) -> str:
    """RELU6 as RELU if 6 is so many steps that runtimes refuse it: nothing comes near."""
    return "RELU" if kind == "RELU6" and 6 / float(grid.scale[0]) > 2**30 else kind


def used(graph: Graph) -> Graph:
    """Returns a graph without the operators that lead to no output, and without their tensors."""
    needed, ops = set(graph.outputs), []
    for op in reversed(graph.ops):
        if needed & set(op.outputs):
            needed |= {*op.inputs, *op.outputs}
            ops.append(op)
    tensors = {
        name: tensor for name, tensor in graph.tensors.items() if name in needed | set(graph.inputs)
    }
    return replace(graph, tensors=tensors, ops=ops[::-1])


def grid_of(layer: ActivationQuantizer) -> Quantization:
    """Returns the int8 grid of an activation quantizer: its highest code is stored as 127."""
    scale, low = layer.encode()
    return Quantization(np.array(scale), 127 - (2**layer.bits - 1) - low)


def same(first: Quantization | None, second: Quantization | None) -> bool:
    """Returns whether two grids are equal."""
    if first is None or second is None:
        return first is second
    return first.zero_point == second.zero_point and np.array_equal(first.scale, second.scale)
