"""Runs an integer graph in numpy, bit for bit as a runtime does.

The modes follow the arithmetic in use. "f32" is what LiteRT runs by default: XNNPACK, and built-in
kernels for what it declines. "f32-tf" is TensorFlow's default, which rounds MEAN the other way at
ties and agrees elsewhere. "ref" is the reference kernels of tflite-runtime; "ref-micro" those of
TensorFlow Lite for Microcontrollers, whose LOGISTIC and TANH are fixed point; "ref-new" those of
LiteRT and TensorFlow, where FULLY_CONNECTED has become float64.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tfqreg.errors import ModelError

from .ir import Graph, Op
from .kernels import (
    elementwise,
    layout,
    lookup,
    multiply,
    normalization,
    pooling,
    products,
    reductions,
    resize,
    softmax,
    tables,
)
from .kernels.call import MODES, Call

Operator = Callable[..., np.ndarray]
Arrays = Mapping[str, np.ndarray] | Sequence[np.ndarray]

OPERATORS: dict[str, Operator] = {
    "ADD": elementwise.add,
    "ARG_MAX": reductions.arg_max,
    "AVERAGE_POOL_2D": pooling.average_pool_2d,
    "CAST": lookup.cast,
    "CONCATENATION": layout.concatenation,
    "CONV_2D": products.conv_2d,
    "DEPTH_TO_SPACE": layout.depth_to_space,
    "DEPTHWISE_CONV_2D": products.depthwise_conv_2d,
    "DEQUANTIZE": elementwise.dequantize,
    "FULLY_CONNECTED": products.fully_connected,
    "GATHER": lookup.gather,
    "HARD_SWISH": tables.hard_swish,
    "L2_NORMALIZATION": normalization.l2_normalization,
    "LEAKY_RELU": tables.leaky_relu,
    "LOGISTIC": tables.logistic,
    "MAXIMUM": elementwise.maximum,
    "MAX_POOL_2D": pooling.max_pool_2d,
    "MEAN": pooling.mean,
    "MINIMUM": elementwise.minimum,
    "MUL": multiply.mul,
    "PAD": layout.pad,
    "PRELU": tables.prelu,
    "QUANTIZE": elementwise.quantize,
    "REDUCE_MAX": reductions.reduce_max,
    "REDUCE_MIN": reductions.reduce_min,
    "RELU": elementwise.relu,
    "RELU6": elementwise.relu6,
    "RESHAPE": layout.reshape,
    "RESIZE_BILINEAR": resize.resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize.resize_nearest_neighbor,
    "REVERSE_V2": layout.reverse,
    "SOFTMAX": softmax.softmax,
    "SPACE_TO_DEPTH": layout.space_to_depth,
    "STRIDED_SLICE": layout.strided_slice,
    "SUB": elementwise.sub,
    "TANH": tables.tanh,
    "TRANSPOSE": layout.transpose,
    "TRANSPOSE_CONV": products.transpose_conv,
}

_CHUNK_ELEMENTS = 1 << 23  # of a temporary: 32 MiB in float32
_MOST_SAMPLES = 256  # in one batch, for the sum of all that is kept


def simulate(
    graph: Graph, inputs: Arrays, mode: str = "f32", keep: set[str] | None = None
) -> dict[str, np.ndarray]:
    """Runs a batch through the graph and returns what every operator computed.

    Args:
        graph: the integer graph.
        inputs: one array (batch, ...) per graph input, by name or in the graph's order.
        mode: "f32", the default, for what LiteRT runs by default, "f32-tf" for what TensorFlow
            does, "ref", "ref-micro" or "ref-new" for reference kernels.
        keep: the tensors to return; all operators' outputs by default.

    Returns:
        Tensor name -> array (batch, ...), in execution order.

    Raises:
        ModelError: for an unknown mode, operator or tensor, or inputs whose names, shapes or dtypes
            do not fit.

    Example:
        >>> from tfqreg.export import lower
        >>> outputs = simulate(lower(model), [np.zeros((3, 8, 8, 1), np.int8)])
        >>> {name: array.shape for name, array in outputs.items()}["conv"]
        (3, 6, 6, 8)
    """
    if mode not in MODES:
        raise ModelError(
            "", f"A simulator's mode is one of {', '.join(MODES)}", received=f"mode={mode!r}"
        )
    calls = [(_call(graph, op, mode), _operator(op)) for op in graph.ops]
    computed = [op.outputs[0] for op in graph.ops]
    if missing := sorted((keep or set()) - set(computed)):
        raise ModelError("", "No operator computes the tensors to keep", received=f"keep={missing}")
    kept = [name for name in computed if keep is None or name in keep]
    arrays = named_inputs(graph, inputs)
    parts = [_run(graph, calls, chunk, kept) for chunk in chunks(arrays, chunk_size(graph))]
    return {name: np.concatenate([part[name] for part in parts]) for name in kept}


def named_inputs(graph: Graph, inputs: Arrays) -> dict[str, np.ndarray]:
    """Checks a batch against the graph's inputs and names it.

    Raises:
        ModelError: if names, count, shape, dtype or batch sizes do not fit.
    """
    if not isinstance(inputs, Mapping):
        if len(inputs) != len(graph.inputs):
            raise ModelError(
                "", f"Give one array per input {graph.inputs}", received=f"{len(inputs)} arrays"
            )
        inputs = dict(zip(graph.inputs, inputs, strict=True))
    if set(inputs) != set(graph.inputs):
        raise ModelError("", f"Give the inputs {graph.inputs}", received=str(list(inputs)))
    for name in graph.inputs:
        tensor, array = graph.tensors[name], inputs[name]
        if (
            array.shape[1:] != tensor.shape[1:]
            or array.ndim != len(tensor.shape)
            or array.dtype != tensor.dtype
        ):
            raise ModelError(
                name,
                f"samples must be {tensor.dtype} of shape {('batch', *tensor.shape[1:])}",
                received=f"{array.dtype} of shape {array.shape}",
            )
    sizes = {name: len(inputs[name]) for name in graph.inputs}
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise ModelError(
            "", "Every input needs the same number of samples, at least one", received=str(sizes)
        )
    return {name: inputs[name] for name in graph.inputs}


def chunks(arrays: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a batch into batches of at most `size` samples."""
    for start in range(0, len(next(iter(arrays.values()))), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def chunk_size(graph: Graph) -> int:
    """The number of samples whose largest temporary stays within a few dozen megabytes."""
    largest = 1
    for op in graph.ops:
        output = graph.tensors[op.outputs[0]].shape
        pixels = int(np.prod(output[1:-1]))
        patch = int(np.prod(graph.tensors[op.inputs[1]].shape[1:])) if op.kind == "CONV_2D" else 0
        largest = max(largest, pixels * max(patch, output[-1]))
    return min(max(_CHUNK_ELEMENTS // largest, 1), _MOST_SAMPLES)


def _operator(op: Op) -> Operator:
    if op.kind not in OPERATORS:
        raise ModelError(
            op.outputs[0],
            f"no operator {op.kind!r} can be simulated",
            f"Known: {', '.join(OPERATORS)}",
        )
    return OPERATORS[op.kind]


def _call(graph: Graph, op: Op, mode: str) -> Call:
    return Call(
        op, tuple(graph.tensors[name] for name in op.inputs), graph.tensors[op.outputs[0]], mode
    )


def _run(
    graph: Graph, calls: list[tuple[Call, Operator]], values: dict[str, np.ndarray], kept: list[str]
) -> dict[str, np.ndarray]:
    constants = {
        name: tensor.data for name, tensor in graph.tensors.items() if tensor.data is not None
    }
    values = constants | values
    for call, operator in calls:
        values[call.output.name] = operator(call, *(values[name] for name in call.op.inputs))
    return {name: values[name] for name in kept}
