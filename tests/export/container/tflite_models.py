"""Small `.tflite` files of any tensors, written with the flatbuffer schema."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "float16": schema.TensorType.FLOAT16,
    "float32": schema.TensorType.FLOAT32,
}


@dataclass(frozen=True)
class Array:
    """One tensor of a test file.

    `buffer` names another tensor whose data it shares; `type` and `shape` override what `data`
    says, so that packed int4 and shapes that do not fit can be written.
    """

    name: str
    data: np.ndarray | None = None
    scale: np.ndarray | None = None
    type: int | None = None
    shape: tuple[int, ...] | None = None
    buffer: str | None = None


def tflite(
    arrays: list[Array], operators: Sequence[list[int]] = (), description: str = "test"
) -> bytes:
    """Returns a `.tflite` of these tensors; `operators` list inputs of FULLY_CONNECTED."""
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.operatorCodes = [schema.OperatorCodeT()]
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [0]
    places: dict[str, int] = {}
    for array in arrays:
        tensor = schema.TensorT()
        tensor.name = array.name
        tensor.shape = list(array.shape or (array.data.shape if array.data is not None else (1,)))
        tensor.type = array.type if array.type is not None else TYPES[str(_dtype(array))]
        tensor.quantization = schema.QuantizationParametersT()
        if array.scale is not None:
            tensor.quantization.scale = np.asarray(array.scale, np.float32)
            tensor.quantization.zeroPoint = np.zeros(len(array.scale), np.int64)
        tensor.buffer = places.get(array.buffer or "", 0)
        if array.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(array.data.tobytes(), np.uint8)
            places[array.name] = tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    for inputs in operators:
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = inputs, [0]
        graph.operators.append(operator)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _dtype(array: Array) -> np.dtype:
    return array.data.dtype if array.data is not None else np.dtype(np.int8)


def laplace_codes(seed: int, shape: tuple[int, ...], bits: int, sparsity: float) -> np.ndarray:
    """Returns Laplace-distributed int8 codes of `bits` bits; about `sparsity` (0 to 1) are zero."""
    random = np.random.default_rng(seed)
    top = 2 ** (bits - 1) - 1
    codes = np.clip(np.rint(random.laplace(size=shape) * top / 4), -top, top)
    codes[random.random(shape) < sparsity] = 0
    return codes.astype(np.int8)


def dense_layers(seed: int, sizes: list[int], bits: int, sparsity: float) -> bytes:
    """Returns an int8 network of dense layers: per-channel scales, biases, their derived scales."""
    random = np.random.default_rng(seed)
    arrays, operators = (
        [Array("input", scale=np.array([0.02], np.float32), shape=(1, sizes[0]))],
        [],
    )
    for layer, (inputs, units) in enumerate(pairwise(sizes)):
        source = arrays[0] if layer == 0 else arrays[-1]
        scale = random.uniform(1e-3, 4e-3, units).astype(np.float32)
        shift = 8 - bits
        codes = laplace_codes(seed + layer, (units, inputs), bits, sparsity) << shift
        bias = np.rint(random.normal(size=units) * 3000).astype(np.int32)
        first = len(arrays)
        operators.append([arrays.index(source), first, first + 1])
        arrays += [
            Array(f"dense_{layer}/kernel", codes.astype(np.int8), scale),
            Array(f"dense_{layer}/bias", bias, source.scale * scale),
            Array(f"dense_{layer}/output", scale=np.array([0.05], np.float32), shape=(1, units)),
        ]
    return tflite(arrays, operators)
