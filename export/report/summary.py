"""Where the bytes of a model go: one row per kernel, for `.keras`, `.tflite` and `.tqw`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..container import ContainerInfo, inspect, pack
from ..container.encoder.symbols import entropy_bits
from ..container.format.elements import common_shift, to_codes
from ..container.inspection.huffman import huffman_bytes
from ..container.inspection.text_table import aligned
from ..container.tflite.locate import ELEMENT_TYPES
from ..flatbuffer.read import read_operators, reading, tensor_name, tensor_shape
from .shifts import shift_additions, uses

_T = schema.TensorType
_KERNEL_TYPES = (_T.INT2, _T.INT4, _T.INT8, _T.UINT8, _T.INT16, _T.FLOAT16, _T.BFLOAT16, _T.FLOAT32)
_NOTHING = "-"
_LONGEST_NAME = 48  # characters; more would push the figures off the screen

HEADER = (
    *("kernel", "kind", "shape", "weights", "bits", "zeros (%)"),
    *("raw (bytes)", "entropy (bytes)", "Huffman (bytes)", "coded (bytes)"),
    *("multiplies", "or shifts"),
)
_SUMMED = (
    "raw_bytes",
    "entropy_bytes",
    "huffman_bytes",
    "coded_bytes",
    "multiplications",
    "shifts",
)


@dataclass(frozen=True)
class Row:
    """One kernel.

    `kind` is the operator or layer that reads it; `bits` the width of its codes, a shift common to
    all left out; `sparsity` the fraction of zeros, 0 to 1; `raw_bytes` its size in the `.tflite` or
    float model; `entropy_bytes` the zero-order entropy of its codes; `coded_bytes` its stream in
    the container, table included, None if it has none of its own: tiny, or equal to another;
    `huffman_bytes` a static Huffman code of its codes, without a table. `multiplications` are those
    by nonzero weights, for one sample; `shifts` the shifts with an addition each that could take
    their place, None if a code is no sum of two signed powers of two.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    bits: int
    sparsity: float
    raw_bytes: int
    entropy_bytes: float | None = None
    coded_bytes: int | None = None
    huffman_bytes: float | None = None
    multiplications: int | None = None
    shifts: int | None = None


@dataclass(frozen=True)
class Summary:
    """All kernels of a model, and its sizes in bytes.

    `parts` are the container's, and add up to it. `container_bytes` and `tflite_bytes` are None
    if the model is not quantized. `float_bytes` is what its weights and biases take in float32.
    """

    rows: tuple[Row, ...]
    float_bytes: int
    tflite_bytes: int | None = None
    container_bytes: int | None = None
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Constant:
    name: str
    kind: str
    shape: tuple[int, ...]
    type: int
    data: bytes
    uses: int

    @property
    def is_kernel(self) -> bool:
        return len(self.shape) > 1 and self.type in _KERNEL_TYPES


def summarize(
    tflite: bytes, container: bytes | None = None, bits: Mapping[str, int] | None = None
) -> Summary:
    """Returns the summary of a `.tflite`.

    Args:
        tflite: the whole file.
        container: the `.tqw` it was packed into; packed in memory by default.
        bits: widths as trained, by kernel name; read off the codes if a name is missing.

    Raises:
        ContainerError, ModelError: for a file that is damaged, or no `.tflite`.

    Example:
        >>> summary = summarize(tflite)
        >>> summary.tflite_bytes == len(tflite), [row.name for row in summary.rows]
        (True, ['conv/kernel', 'hidden/kernel', 'head/kernel'])
    """
    container = pack(tflite) if container is None else container
    info = inspect(container)
    with reading(tflite):
        constants = _constants(tflite)
        rows = layer_rows(tflite, info, bits)
    readers = {c.kind for c in constants if c.is_kernel}
    biases = sum(
        int(np.prod(c.shape)) for c in constants if len(c.shape) == 1 and c.kind in readers
    )
    return Summary(
        rows=tuple(rows),
        float_bytes=4 * (sum(row.weights for row in rows) + biases),
        tflite_bytes=len(tflite),
        container_bytes=len(container),
        parts=_parts(info, {row.name for row in rows}),
    )


def summarize_model(model: Any) -> Summary:
    """Returns the summary of a Keras model: of the file it exports to, or of its float kernels.

    Args:
        model: a `keras.Model`, quantized or not.

    Raises:
        ModelError: for a quantized model that cannot be lowered, as `tfqreg.export.lower`.

    Example:
        >>> [row.bits for row in summarize_model(model).rows]
        [5, 3, 8]
    """
    from tfqreg.layers.queries import quantized_layers

    from ..flatbuffer.write import write_tflite
    from ..lowering.lower import lower

    if not quantized_layers(model):
        return Summary(
            tuple(float_rows(model)), sum(int(np.prod(w.shape)) * 4 for w in model.weights)
        )
    graph = lower(model)
    return summarize(
        write_tflite(graph), bits={name: tensor.bits for name, tensor in graph.tensors.items()}
    )


def layer_rows(
    tflite: bytes, info: ContainerInfo, bits: Mapping[str, int] | None = None
) -> list[Row]:
    """Returns one row for each kernel of a `.tflite`: a constant of rank 2 or more, no int32.

    Args:
        tflite: the whole file.
        info: of the container it was packed into.
        bits: widths as trained, by kernel name; read off the codes if a name is missing.
    """
    coded = {tensor.name: tensor.coded_bytes + tensor.table_bytes for tensor in info.tensors}
    return [
        _row(c, coded.get(c.name), (bits or {}).get(c.name))
        for c in _constants(tflite)
        if c.is_kernel
    ]


def float_rows(model: Any) -> list[Row]:
    """Returns one row for each kernel of a Keras model as it is, in float."""
    import keras

    from tfqreg.layers.quantized import kernel_names

    rows = []
    for layer in dict.fromkeys(model._flatten_layers()):
        for name in kernel_names(layer) if layer.built else ():
            kernel = np.asarray(keras.ops.convert_to_numpy(getattr(layer, name)))
            zeros = 1.0 - np.count_nonzero(kernel) / kernel.size
            kind = type(layer).__name__
            width = 8 * kernel.itemsize
            rows.append(
                Row(
                    f"{layer.name}/{name}",
                    kind,
                    kernel.shape,
                    kernel.size,
                    width,
                    zeros,
                    kernel.nbytes,
                )
            )
    return rows


def _constants(tflite: bytes) -> list[_Constant]:
    """Returns the constants that operators read, each once, with how often it is multiplied."""
    found: dict[int, _Constant] = {}
    for operator in read_operators(tflite):
        shapes = [tensor_shape(tensor) for tensor in operator.inputs]
        times = uses(operator.kind, shapes, tensor_shape(operator.output))
        for tensor, shape, data in zip(operator.inputs, shapes, operator.data, strict=True):
            if data is None or not len(data):
                continue
            first = _Constant(
                tensor_name(tensor), operator.kind, shape, tensor.type, data.tobytes(), 0
            )
            known = found.get(id(tensor), first)
            found[id(tensor)] = replace(known, uses=known.uses + times)
    return list(found.values())


def _row(constant: _Constant, coded_bytes: int | None, bits: int | None) -> Row:
    width, signed = ELEMENT_TYPES[constant.type]
    codes = to_codes(constant.data, int(np.prod(constant.shape)), width, signed)
    counts = np.unique(codes, return_counts=True)[1]
    return Row(
        name=constant.name,
        kind=constant.kind,
        shape=constant.shape,
        weights=codes.size,
        bits=bits or (width - common_shift(codes) if width <= 8 else width),
        sparsity=1.0 - np.count_nonzero(codes) / codes.size,
        raw_bytes=len(constant.data),
        entropy_bytes=float(entropy_bits(counts)) / 8,
        coded_bytes=coded_bytes,
        huffman_bytes=huffman_bytes(codes),
        multiplications=int(np.count_nonzero(codes)) * constant.uses or None,
        shifts=shift_additions(codes, constant.uses) if constant.uses and width <= 8 else None,
    )


def _parts(info: ContainerInfo, kernels: set[str]) -> dict[str, int]:
    """Returns the container's bytes by what they are for."""
    parts = {"kernels": 0, "biases": 0, "scales and zero points": 0}
    for tensor in info.tensors:
        scales = tensor.name.endswith((" scale", " zero point"))
        part = (
            "kernels"
            if tensor.name in kernels
            else "scales and zero points"
            if scales
            else "biases"
        )
        parts[part] += tensor.coded_bytes + tensor.table_bytes
    parts["graph and small tensors"] = info.skeleton_bytes
    parts["header and index"] = info.header_bytes + info.index_bytes
    return parts


def format_summary(summary: Summary) -> str:
    """Returns the table of kernels, the parts of the container and the sizes of the files.

    Args:
        summary: what `summarize` or `summarize_model` returned.

    Example:
        >>> print(format_summary(summarize(tflite)))
        kernel         kind             shape      ...
        conv/kernel    CONV_2D          8 x 3 x 3 x 1  ...
        ...
        container (.tqw)  ...
        model (.tflite)   ...
        in float32        ...
    """
    whole = summary.container_bytes
    table = format_table(summary.rows)
    if whole is None:
        text = (
            f"Not quantized: {summary.float_bytes:,} bytes of float weights, no integer file yet."
        )
        return f"{table}\n\n{text}"
    sizes = {**summary.parts, "container (.tqw)": whole}
    lines = [["", "bytes", "of the container"]]
    lines += [[part, f"{size:,}", f"{size / whole:.1%}"] for part, size in sizes.items()]
    for label, size in (
        ("model (.tflite)", summary.tflite_bytes),
        ("in float32", summary.float_bytes),
    ):
        lines.append([label, f"{size:,}", f"{(size or 0) / whole:.1f} times"])
    return f"{table}\n\n{aligned(lines, '<>>')}"


def format_table(rows: Sequence[Row]) -> str:
    """Returns the kernels as aligned plain text, with a row of totals.

    Example:
        >>> head = Row("head/kernel", "FULLY_CONNECTED", (10, 500), 5000, 3, 0.5, 5000)
        >>> print(format_table([head]))
        kernel       kind             shape     weights  ...  zeros (%)  raw (bytes)  ...
        head/kernel  FULLY_CONNECTED  10 x 500    5,000  ...      50.00        5,000  ...
        total                                     5,000  ...
    """
    body = [*map(cells, rows), total_cells(rows)]
    return aligned([HEADER, *([_short(line[0]), *line[1:]] for line in body)], "<<<>>>>>>>>>")


def cells(row: Row) -> list[str]:
    """Returns a row as text, in the order of `HEADER`."""
    sizes = [getattr(row, name) for name in _SUMMED]
    shape = " x ".join(map(str, row.shape))
    zeros = f"{100 * row.sparsity:.2f}"
    return [row.name, row.kind, shape, f"{row.weights:,}", str(row.bits), zeros, *map(_size, sizes)]


def total_cells(rows: Sequence[Row]) -> list[str]:
    """Returns the totals of `rows` as text, in the order of `HEADER`."""
    weights = sum(row.weights for row in rows)
    zeros = sum(row.weights * row.sparsity for row in rows)
    columns = ([getattr(row, name) for row in rows] for name in _SUMMED)
    known = [[size for size in column if size is not None] for column in columns]
    sizes = [_size(sum(column) if column else None) for column in known]
    return ["total", "", "", f"{weights:,}", "", f"{100 * zeros / max(weights, 1):.2f}", *sizes]


def _size(size: float | None) -> str:
    return _NOTHING if size is None else f"{size:,.0f}"


def _short(name: str) -> str:
    """Returns a name without its beginning if other converters strung several together."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
