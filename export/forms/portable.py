"""The portable form of an integer graph, which every interpreter computes alike.

Interpreters differ in how they round a sum to int8. Here no sum is rounded on which they differ:

- Every scale is a power of two, so a multiplier is a shift, 2^-n.
- Weights are 4 m, -31 <= m <= 31, and biases 2 modulo 4. A sum is then 2 modulo 4: even, so that
  halving it first loses nothing, and no tie if n >= 3. If n <= 2, biases are 0 modulo 4, and
  nothing is rounded.
- The inputs of an addition are at least as coarse as its output, so it rounds nothing either.
- HARD_SWISH takes 16-bit numbers of powers of two; its zero point is moved by a step or a few
  where ARM's processors would meet a tie.
- A global average is an AVERAGE_POOL_2D, an integer division everywhere, on its input's own grid.

The codes are derived anew from the graph's: at most 6 bits, the nearest on each channel's grid.
That is exact for codes of up to 6 bits at scales that are powers of two, and an approximation of
everything else; what it costs in accuracy is in benchmarks/results/portable.json.
"""

from dataclasses import replace

import numpy as np

from tfqreg.errors import ModelError

from ..ir import Attribute, Graph, Op, Quantization, Tensor
from .portable_grids import FUSES_RELU, PRODUCTS, portable_grids

# A shift of 2 makes room for the residue, and 6 bits are what int8 then holds.
WEIGHT_BITS, WEIGHT_SHIFT = 6, 2
_LARGEST_CODE = 2 ** (WEIGHT_BITS - 1) - 1
_RESIDUE = 2 ** (WEIGHT_SHIFT - 1)  # of biases modulo 4: half-way between two multiples
_LARGEST_BIAS = 2**30  # leaves the accumulator as much room again below 2^31
# A larger right shift would meet sums that float32 does not hold, 2^25 and more; a smaller one
# saturates them.
_LARGEST_RIGHT_SHIFT, _LARGEST_LEFT_SHIFT = 16, 7


def portable(graph: Graph) -> Graph:
    """Returns the portable form of an integer graph.

    Args:
        graph: the graph, with int8 inputs and outputs.

    Raises:
        ModelError: for an operator that interpreters round differently whatever its scales.
    """
    grids = portable_grids(graph)
    result = replace(graph, tensors={}, ops=[], form="portable")
    for name, grid in grids.items():
        result.add(replace(graph.tensors[name], quantization=grid))
    for op in graph.ops:
        if op.kind == "MEAN":
            _mean(graph, result, op)
            continue
        inputs = _product_inputs(graph, result, op) if op.kind in PRODUCTS else op.inputs
        for name in inputs:
            if name not in result.tensors:
                result.add(_regridded(graph.tensors[name], grids[op.outputs[0]]))
        result.ops.append(replace(op, inputs=inputs, attributes=_attributes(graph, op)))
    return result


def _attributes(graph: Graph, op: Op) -> dict[str, Attribute]:
    """What int8's lowest code has clipped at 0 becomes a ReLU: the new grid may reach below."""
    clips = (
        op.kind in FUSES_RELU
        and op.attributes.get("activation", "NONE") == "NONE"
        and _starts_at_zero(graph, op)
    )
    return {**op.attributes, "activation": "RELU"} if clips else op.attributes


def _starts_at_zero(graph: Graph, op: Op) -> bool:
    grid = graph.tensors[op.outputs[0]].quantization
    return grid is not None and grid.zero_point == -128


def _mean(graph: Graph, result: Graph, op: Op) -> None:
    source, target = result.tensors[op.inputs[0]], result.tensors[op.outputs[0]]
    attributes: dict[str, Attribute] = {
        "filter": source.shape[1:3],
        "stride": (1, 1),
        "padding": "VALID",
        "activation": "RELU" if _starts_at_zero(graph, op) else "NONE",
    }
    shape = (1, 1, 1, source.shape[3])
    pooled = target.name
    if target.shape != shape:
        pooled = result.add(Tensor(f"{target.name}/pooled", shape, "int8", target.quantization))
    result.ops.append(Op("AVERAGE_POOL_2D", op.inputs[:1], (pooled,), attributes))
    if pooled != target.name:
        result.ops.append(Op("RESHAPE", (pooled,), op.outputs, {"shape": target.shape}))


def _product_inputs(graph: Graph, result: Graph, op: Op) -> tuple[str, ...]:
    """Adds an operator's weights and bias; returns its inputs."""
    order = PRODUCTS[op.kind]
    names = [*op.inputs, *([f"{op.outputs[0]}/bias"] if len(op.inputs) == order.bias else [])]
    weights, bias = graph.tensors[names[order.weights]], graph.tensors.get(names[order.bias])
    axis = _axis(weights)
    source, target = (
        _scales(result.tensors[name])[0] for name in (names[order.source], op.outputs[0])
    )
    offset = np.zeros(weights.shape[axis]) if bias is None else _data(bias) * _scales(bias)
    data, scale, integers = portable_weights(
        _data(weights), _scales(weights), axis, offset, source, target
    )
    _check_sums(op, data, axis, integers, source * scale / target)
    kernel = replace(
        weights,
        data=data,
        quantization=Quantization(scale, 0, axis),
        bits=WEIGHT_BITS,
        shift=WEIGHT_SHIFT,
    )
    names[order.weights] = _added(result, kernel)
    grid = Quantization(source * scale)
    names[order.bias] = _added(
        result, Tensor(names[order.bias], integers.shape, "int32", grid, integers)
    )
    return tuple(names)


def portable_weights(
    codes: np.ndarray,
    scale: np.ndarray,
    axis: int,
    bias: np.ndarray,
    source_scale: float,
    target_scale: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns int8 weights 4 m, their scales, powers of two, and an int32 bias off the ties.

    Args:
        codes, scale: the weights `codes * scale`, `scale` (1,) or (channels,) along `axis`.
        bias: (channels,) in the units of source times weights.
        source_scale, target_scale: of input and output, powers of two.

    Example:
        >>> codes, scale, bias = np.int8([[7, -3]]), np.array([0.3]), np.array([1.0])
        >>> portable_weights(codes, scale, 0, bias, 2.0**-7, 2.0**-5)
        (array([[ 68, -28]], dtype=int8), array([0.03125], dtype=float32), array([4098],
        dtype=int32))
    """
    shape = [1] * codes.ndim
    shape[axis] = -1
    real = codes * scale.reshape(shape)
    largest = np.abs(real).max(tuple(a for a in range(codes.ndim) if a != axis))
    finest = target_scale / source_scale * 2.0 ** (WEIGHT_SHIFT - _LARGEST_RIGHT_SHIFT)
    unit = 2.0 ** np.ceil(np.log2(np.maximum(largest / (_LARGEST_CODE + 0.49), finest)))
    data = np.rint(real / unit.reshape(shape)).astype(np.int8) << WEIGHT_SHIFT
    stored = unit / 2**WEIGHT_SHIFT
    residue = np.where(
        source_scale * stored / target_scale <= 2.0 ** -(WEIGHT_SHIFT + 1), _RESIDUE, 0
    )
    steps = np.clip(bias / (source_scale * stored), -_LARGEST_BIAS, _LARGEST_BIAS)
    integers = np.rint((steps - residue) / 2**WEIGHT_SHIFT) * 2**WEIGHT_SHIFT + residue
    scales = stored[:1] if (stored == stored[0]).all() else stored
    return data, scales.astype(np.float32), integers.astype(np.int32)


def _check_sums(
    op: Op, data: np.ndarray, axis: int, bias: np.ndarray, multiplier: np.ndarray
) -> None:
    """Raises ModelError if a sum may leave int32.

    Runtimes shift it left by one more than its multiplier says.
    """
    sums = np.abs(data.astype(np.int64)).sum(tuple(a for a in range(data.ndim) if a != axis)) * 255
    reach = (sums + np.abs(bias.astype(np.int64))) * np.maximum(2 * multiplier, 1.0)
    if reach.max() >= 2**31 or multiplier.max() > 2**_LARGEST_LEFT_SHIFT:
        raise ModelError(
            op.outputs[0],
            f"{op.kind} has no portable form: its sums overflow",
            "Calibrate the model, so that its output scale fits its weights",
            f"{multiplier.max() * 4:g} output steps for one of its weights'",
        )


def _regridded(constant: Tensor, grid: Quantization) -> Tensor:
    """Returns a constant, with int8 codes brought to a grid."""
    if constant.dtype != "int8" or constant.quantization is None:
        return constant
    steps = (_data(constant) - constant.quantization.zero_point) * _scales(
        constant
    ) / grid.scale + grid.zero_point
    return replace(
        constant, data=np.clip(np.rint(steps), -128, 127).astype(np.int8), quantization=grid
    )


def _added(result: Graph, tensor: Tensor) -> str:
    """Adds a constant, under a name of its own if a layer called twice has met two grids."""
    present = result.tensors.get(tensor.name)
    if present is None:
        return result.add(tensor)
    equal = np.array_equal(_data(present), _data(tensor)) and np.array_equal(
        _scales(present), _scales(tensor)
    )
    return tensor.name if equal else _added(result, replace(tensor, name=f"{tensor.name}'"))


def _data(tensor: Tensor) -> np.ndarray:
    assert tensor.data is not None
    return tensor.data


def _scales(tensor: Tensor) -> np.ndarray:
    assert tensor.quantization is not None
    return tensor.quantization.scale.astype(np.float64)


def _axis(tensor: Tensor) -> int:
    assert tensor.quantization is not None
    return tensor.quantization.axis
