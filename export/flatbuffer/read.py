"""Reads a `.tflite`: its operators, its ends, and what tfqreg says of it in the metadata."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfqreg.errors import ModelError

from ..container import ContainerError
from ..container.tflite.locate import IDENTIFIER

# Entries of the metadata, both JSON; a file has them only if there is something to say.
EXPONENTS_ENTRY = "tfqreg.exponents"
FORM_ENTRY = "tfqreg.form"

_KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if name.isupper()}
# Input 1 of these operators are weights.
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class Operator:
    """One operator of a `.tflite` with its tensors; absent inputs are left out.

    Attributes:
        kind: name of the operator, such as "CONV_2D".
        version: of the operator.
        options: the schema's object, whose class depends on the operator.
        inputs: the schema's tensors.
        output: the first output.
        data: the bytes of each input, None for an activation.
    """

    kind: str
    version: int
    options: Any
    inputs: list[Any]
    output: Any
    data: list[np.ndarray | None]

    @property
    def name(self) -> str:
        """The name of its output, which is the path of the layer it came from."""
        return tensor_name(self.output)


class Form(NamedTuple):
    """How a model was exported; the fields are those of `tfqreg.export.ir.Graph`."""

    form: str = "int8"
    scale_dtype: str = "float32"
    logits: bool = False
    target: str | None = None

    def entry(self) -> dict[str, Any]:
        """Returns it as JSON; what came later is left out where it is the default."""
        later = {"logits": self.logits, "target": self.target}
        known = {"form": self.form, "scale_dtype": self.scale_dtype}
        return known | {name: value for name, value in later.items() if value}


def file_bytes(file: bytes | str | Path) -> bytes:
    """Returns the bytes of a file that is given by its path, or as its bytes."""
    return file if isinstance(file, bytes) else Path(file).read_bytes()


def read_tflite(path: str | Path) -> bytes:
    """Returns the bytes of a `.tflite`; raises ModelError for a file that is none."""
    data = file_bytes(path)
    if data[4:8] != IDENTIFIER:
        raise ModelError(
            str(path),
            "this is no .tflite file",
            received=f"{len(data)} bytes, starting {data[:8]!r}",
        )
    return data


@contextmanager
def reading(tflite: bytes) -> Iterator[None]:
    """Makes whatever goes wrong an error about a damaged file; errors of this project stay.

    FlatBuffers' Python reader checks nothing: damage ends in whatever it, or who uses what it read,
    trips over.

    Example:
        >>> with reading(b"TFL3"):
        ...     [][0]
        Traceback (most recent call last):
            ...
        tfqreg.errors.ModelError: This .tflite file is damaged. Export it again. Received: 4 bytes
    """
    try:
        yield
    except (ModelError, ContainerError):
        raise
    except Exception as error:
        raise ModelError(
            "", "This .tflite file is damaged", "Export it again", f"{len(tflite)} bytes"
        ) from error


def parse(tflite: bytes) -> Any:
    """Returns the schema's object of a whole model; raises ModelError for a damaged file."""
    with reading(tflite):
        return schema.ModelT.InitFromPackedBuf(tflite)


def read_operators(tflite: bytes) -> list[Operator]:
    """Returns the operators of a model in execution order; raises ModelError for a damaged file."""
    with reading(tflite):
        model: Any = schema.ModelT.InitFromPackedBuf(tflite)
        codes = [
            (_KINDS.get(max(c.builtinCode, c.deprecatedBuiltinCode), "CUSTOM"), c.version)
            for c in model.operatorCodes
        ]
        return [
            _operator(model, subgraph, op, *codes[op.opcodeIndex])
            for subgraph in model.subgraphs
            for op in subgraph.operators
        ]


def _operator(model: Any, subgraph: Any, op: Any, kind: str, version: int) -> Operator:
    inputs = [subgraph.tensors[i] for i in op.inputs if i >= 0]
    data = [model.buffers[tensor.buffer].data for tensor in inputs]
    output = subgraph.tensors[op.outputs[0]]
    return Operator(kind, version, op.builtinOptions, inputs, output, data)


def ends_of_file(tflite: bytes) -> list[list[tuple[str, str]]]:
    """Returns name and dtype of the inputs and of the outputs."""
    with reading(tflite):
        model: Any = schema.ModelT.InitFromPackedBuf(tflite)
        subgraph = model.subgraphs[0]
        return [
            [(tensor_name(subgraph.tensors[i]), dtype(subgraph.tensors[i])) for i in ends]
            for ends in (subgraph.inputs, subgraph.outputs)
        ]


def tensor_name(tensor: Any) -> str:
    """Returns the name of a schema's tensor; empty if it has none."""
    return (tensor.name or b"").decode(errors="replace")


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """Returns the shape of a schema's tensor; empty for a scalar."""
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def dtype(tensor: Any) -> str:
    """Returns the type of a schema's tensor, such as "int8"."""
    return _DTYPES[tensor.type]


def kernel_exponents(tflite: bytes) -> dict[str, list[int]]:
    """Returns the exponents of the kernels whose trained scales are powers of two.

    `w = 2^exponent code`, with codes as they were trained: those of the file may all be shifted by
    some bits, and BatchNorm folds into their scales and signs. Interpreters do not read the
    exponents; a back end that shifts instead of multiplying may.

    Args:
        tflite: a model that `write_tflite` stored.

    Returns:
        Path of the layer -> one exponent, or one per output channel. Empty for any other model.

    Raises:
        ModelError: for a damaged file.

    Example:
        >>> import keras, numpy as np, tfqreg as tq
        >>> from tfqreg.export import lower, write_tflite
        >>> layers = [keras.Input((4,), name="x"), keras.layers.Dense(2, name="head")]
        >>> rules = [tq.Rule(".*", tq.Uniform(4, power_of_two=True))]
        >>> model = tq.quantize(keras.Sequential(layers), rules)
        >>> model = tq.calibrate(model, np.eye(4, dtype="float32"), verbose=0)
        >>> kernel, variable = model.get_layer("head").kernel_pairs()[0]
        >>> _ = kernel.state["log2_scale"].assign([[-3.0]])
        >>> kernel_exponents(write_tflite(lower(model)))
        {'head': [-3]}
    """
    exponents = _metadata(tflite, EXPONENTS_ENTRY) or {}
    with reading(tflite):
        return {str(path): [int(n) for n in values] for path, values in exponents.items()}


def read_form(tflite: bytes) -> Form:
    """Returns how a model was exported.

    A file without the entry is of the default form. There the scales themselves say their dtype:
    those that all fit bfloat16 are the same numbers whichever of the two they were rounded to.

    Raises:
        ModelError: for a damaged file.

    Example:
        >>> read_form(tflite)
        Form(form='int8', scale_dtype='float32', logits=False, target=None)
    """
    entry = _metadata(tflite, FORM_ENTRY)
    with reading(tflite):
        if entry is not None:
            return Form(**entry)
        weights = [op.inputs[1] for op in read_operators(tflite) if op.kind in PRODUCTS]
        grids = [tensor.quantization for tensor in weights if tensor.quantization is not None]
        scales = [np.asarray(grid.scale, np.float32) for grid in grids if grid.scale is not None]
        rounded = not any((part.view(np.uint32) & 0xFFFF).any() for part in scales)
    return Form(scale_dtype="bfloat16" if rounded else "float32")


def _metadata(tflite: bytes, name: str) -> Any:
    """Returns what an entry of the metadata holds; None for a file without it."""
    with reading(tflite):
        model: Any = schema.ModelT.InitFromPackedBuf(tflite)
        found = [entry.buffer for entry in model.metadata or [] if entry.name == name.encode()]
        return json.loads(bytes(model.buffers[found[0]].data)) if found else None
