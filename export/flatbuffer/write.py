"""Stores an integer graph as a `.tflite` flatbuffer.

Nothing is in it that no runtime reads, but for two entries of the metadata, JSON: the exponents of
kernels whose scales were trained to be powers of two, and the form of a graph that is not int8.

The schema's object API does the packing. Added to it: constant data starts on a 16-byte boundary,
which microcontrollers rely on (`force_align` in the schema; the generated Python leaves it out);
equal vectors are stored once; the batch dimension is open (`shape_signature` -1 where `shape` says
1), but for a model with a TRANSPOSE_CONV, which stores its output's shape.
"""

import json
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfqreg.errors import ModelError

from ..container.format.elements import pack_elements, to_elements
from ..container.tflite.locate import IDENTIFIER
from ..ir import Graph, Op, Quantization, Tensor
from ..kernels.windows import stride_remainder
from .operators import OPERATORS
from .read import EXPONENTS_ENTRY, FORM_ENTRY, Form, parse

_ALIGNMENT = 16  # bytes; `force_align` of a buffer's data in the schema
_TYPE = {
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "float32": schema.TensorType.FLOAT32,
    "int4": schema.TensorType.INT4,  # constants alone
}
_LAST_ONE_BYTE_CODE = 127  # what the schema's older field for an operator holds
_SIGNATURE_KEY = "serving_default"  # the key that TensorFlow gives the only signature
_NEEDS_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D")


class _Builder(flatbuffers.Builder):
    """Starts constant data on a 16-byte boundary and stores equal vectors and strings once.

    FlatBuffers allows the latter.
    """

    def __init__(self) -> None:
        super().__init__(1024)
        self._stored: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = x.dtype.str, x.tobytes()
        if key not in self._stored:
            # Bytes are buffer data; every other vector keeps the alignment of its elements.
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, x.size)
            self._stored[key] = super().CreateNumpyVector(x)
        return self._stored[key]

    def CreateString(self, s: Any, *args: Any) -> int:
        key = "string", s if isinstance(s, bytes) else s.encode()
        if key not in self._stored:
            self._stored[key] = super().CreateString(s, *args)
        return self._stored[key]


def write_tflite(graph: Graph) -> bytes:
    """Stores a graph as a `.tflite` model.

    The same graph gives the same bytes. Tensors keep their names and order; every activation's
    leading dimension is left open.

    Args:
        graph: the integer graph.

    Raises:
        ModelError: if an operator is unknown, lacks an attribute or a bias or names a missing
            tensor, or if a constant disagrees with its tensor.

    Example:
        >>> from tfqreg.export import lower
        >>> write_tflite(lower(model)) == tflite
        True
    """
    index = {name: i for i, name in enumerate(graph.tensors)}
    kinds = list(dict.fromkeys(op.kind for op in graph.ops))
    for op in graph.ops:
        _check_op(op, index)
    operators = [_operator(op, kinds, index) for op in graph.ops]
    for op in graph.ops:
        _check_same(op, graph)
    buffers = [schema.BufferT()]
    open_batch = "TRANSPOSE_CONV" not in kinds
    tensors = [_tensor(tensor, buffers, open_batch) for tensor in graph.tensors.values()]
    subgraph = schema.SubGraphT(
        tensors=tensors,
        inputs=[index[name] for name in graph.inputs],
        outputs=[index[name] for name in graph.outputs],
        operators=operators,
    )
    codes = [_operator_code(kind) for kind in kinds]
    metadata = _metadata(graph, buffers)
    return _pack(
        schema.ModelT(
            version=3,
            operatorCodes=codes,
            subgraphs=[subgraph],
            buffers=buffers,
            metadata=metadata,
            signatureDefs=_signatures(graph, index),
        )
    )


def _signatures(graph: Graph, index: dict[str, int]) -> list[schema.SignatureDefT] | None:
    """Returns the one signature, which names the inputs and outputs as Keras does."""
    if not graph.input_names:
        return None
    inputs, outputs = (
        [schema.TensorMapT(name, index[tensor]) for name, tensor in zip(*ends, strict=True)]
        for ends in ((graph.input_names, graph.inputs), (graph.output_names, graph.outputs))
    )
    return [schema.SignatureDefT(inputs, outputs, _SIGNATURE_KEY)]


def _metadata(graph: Graph, buffers: list[schema.BufferT]) -> list[schema.MetadataT] | None:
    """Returns the entries that are worth their bytes: none for most models."""
    entries: dict[str, Any] = {}
    if graph.exponents:
        entries[EXPONENTS_ENTRY] = graph.exponents
    form = Form(graph.form, graph.scale_dtype, graph.logits, graph.target)
    if form != Form(scale_dtype=graph.scale_dtype):
        entries[FORM_ENTRY] = form.entry()
    stored = []
    for name, value in entries.items():
        text = json.dumps(value, separators=(",", ":")).encode()
        buffers.append(schema.BufferT(np.frombuffer(text, np.uint8)))
        stored.append(schema.MetadataT(name=name, buffer=len(buffers) - 1))
    return stored or None


def debug_copy(tflite: bytes) -> bytes:
    """The same model with every operator's output also an output of the model, in execution order.

    A delegate may skip or fuse tensors that nobody can see; here it has to compute each of them.
    """
    model = parse(tflite)
    for subgraph in model.subgraphs:
        # Arrays, of which `or` would take the one that holds tensor 0 alone for an empty one.
        subgraph.outputs = [
            t for op in subgraph.operators or [] if op.outputs is not None for t in op.outputs
        ]
    return _pack(model)


def _pack(model: schema.ModelT) -> bytes:
    builder = _Builder()
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _check_op(op: Op, index: dict[str, int]) -> None:
    if op.kind not in OPERATORS:
        raise ModelError(
            op.outputs[0],
            f"no operator {op.kind!r} can be stored",
            f"Known: {', '.join(OPERATORS)}",
        )
    for name in (*op.inputs, *op.outputs):
        if name not in index:
            raise ModelError(
                f"{op.kind} {op.outputs}", f"add tensor {name!r} to the graph before its operator"
            )
    if op.kind in _NEEDS_BIAS and len(op.inputs) < 3:
        raise ModelError(
            f"{op.kind} {op.outputs}", "the int8 kernels refuse it without a bias; give it zeros"
        )


def _check_same(op: Op, graph: Graph) -> None:
    """Refuses SAME if window and stride leave rows unread.

    TensorFlow 2.21's XNNPACK pads by a negative amount then.
    """
    if op.kind not in _NEEDS_BIAS or op.attributes.get("padding") != "SAME":
        return
    a: Any = op.attributes
    sizes, window = graph.tensors[op.inputs[0]].shape[1:3], graph.tensors[op.inputs[1]].shape[1:3]
    steps = zip(sizes, window, a["stride"], a.get("dilation", (1, 1)), strict=True)
    for size, k, stride, dilation in steps:
        if window != (1, 1) and stride_remainder(size, (k - 1) * dilation + 1, stride) > 0:
            raise ModelError(
                f"{op.kind} {op.outputs}",
                "TensorFlow pads SAME wrongly if the stride passes the window; use PAD and VALID",
                received=f"size={size}, window={k}, stride={stride}, dilation={dilation}",
            )


def _operator_code(kind: str) -> schema.OperatorCodeT:
    code = getattr(schema.BuiltinOperator, kind)
    return schema.OperatorCodeT(
        deprecatedBuiltinCode=min(code, _LAST_ONE_BYTE_CODE),
        builtinCode=code,
        version=OPERATORS[kind][0],
    )


def _operator(op: Op, kinds: list[str], index: dict[str, int]) -> schema.OperatorT:
    options = _options(op)
    name = type(options).__name__.removesuffix("T")
    return schema.OperatorT(
        opcodeIndex=kinds.index(op.kind),
        inputs=[index[i] for i in op.inputs],
        outputs=[index[o] for o in op.outputs],
        builtinOptionsType=0 if options is None else getattr(schema.BuiltinOptions, name),
        builtinOptions=options,
    )


def _options(op: Op) -> Any:
    build = OPERATORS[op.kind][1]
    try:
        return build and build(op.attributes)
    except KeyError as error:
        raise ModelError(
            f"{op.kind} {op.outputs}",
            f"give it the attribute {error}, or a value TFLite has",
            received=str(op.attributes),
        ) from None


def _tensor(tensor: Tensor, buffers: list[schema.BufferT], open_batch: bool) -> schema.TensorT:
    if tensor.dtype not in _TYPE or (tensor.dtype == "int4" and tensor.data is None):
        raise ModelError(
            tensor.name, f"dtype is one of {', '.join(_TYPE)}", received=f"dtype={tensor.dtype!r}"
        )
    is_open = open_batch and tensor.data is None
    packed = schema.TensorT(
        name=tensor.name,
        shape=np.array(tensor.shape, np.int32),
        shapeSignature=np.array([-1, *tensor.shape[1:]], np.int32) if is_open else None,
        type=_TYPE[tensor.dtype],
        quantization=None if tensor.quantization is None else _quantization(tensor.quantization),
    )
    if tensor.data is None:
        return packed
    if tensor.data.shape != tensor.shape or tensor.data.dtype != tensor.dtype.replace(
        "int4", "int8"
    ):
        raise ModelError(
            tensor.name,
            f"the data must match the tensor, {tensor.dtype} {tensor.shape}",
            received=f"{tensor.data.dtype} {tensor.data.shape}",
        )
    packed.buffer = len(buffers)
    buffers.append(
        schema.BufferT(np.frombuffer(_stored_bytes(tensor.data, tensor.dtype), np.uint8))
    )
    return packed


def _stored_bytes(data: np.ndarray, dtype: str) -> bytes:
    return pack_elements(to_elements(data.ravel(), 4, 0), 4) if dtype == "int4" else data.tobytes()


def _quantization(quantization: Quantization) -> schema.QuantizationParametersT:
    scale = quantization.scale
    return schema.QuantizationParametersT(
        scale=scale,
        zeroPoint=np.full(scale.shape, quantization.zero_point, np.int64),
        quantizedDimension=quantization.axis,
    )
