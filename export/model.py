"""The two calls a user makes: `export_tflite` and `verify`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .container import pack
from .container.encoder.locate import locate
from .container.files import write_atomically
from .flatbuffer.write import write_tflite
from .forms.int4 import holds_int4, int4_storage
from .forms.portable import portable as portable_form
from .ir import Graph
from .lower import lower
from .simulate import Arrays
from .verify import DEFAULT_RUNTIMES, Report, compare

Samples = np.ndarray | Sequence[np.ndarray] | dict[str, np.ndarray]

STORAGES = ("int8", "int4")
SCALE_DTYPES = ("float32", "bfloat16")
# What computes the same with int4 weights: the default kernels for them are not exact.
_EXACT_WITH_INT4 = {"litert": "litert-ref", "tensorflow": "tensorflow-ref"}


def export_tflite(
    model: keras.Model,
    path: str | Path,
    container: str | Path | None = None,
    float_io: bool = False,
    portable: bool = False,
    storage: str = "int8",
    scale_dtype: str = "float32",
) -> Graph:
    """Writes a quantized model as an all-integer `.tflite` of builtin operators; returns its integer graph.

    A model equals `simulate(graph, ..., mode)` in every element, each runtime in its own mode; a portable one equals
    the same numbers on all of them.

    Args:
        model: a trained or calibrated model with quantizers.
        path: the `.tflite` to write; it appears whole or not at all.
        container: a `.tqw` to write beside it, entropy-coded; none by default.
        float_io: float32 inputs and outputs, converted at the ends; int8 by default.
        portable: scales at powers of two and weights of 6 bits, derived anew from the model's: bit-exact on every
            interpreter, at some cost in accuracy (`tfqreg.export.portable`). False by default.
        storage: "int8", or "int4": two weights a byte where their codes fit and every runtime takes them. The
            reference kernels stay exact, the default ones are not (`tfqreg.export.int4`).
        scale_dtype: "bfloat16" rounds the scales of weights to 8 bits, in simulator and file alike: a third of their
            bytes in the container, and a change of 0.4 % at most in a channel. "float32" by default.

    Raises:
        TypeError, ValueError: as `tfqreg.export.lower.lower`, for an operator that cannot be portable, and for
            arguments that exclude each other; before anything is written.
        OSError: when a file cannot be written.
    """
    graph = exported_graph(model, float_io, portable, storage, scale_dtype)
    tflite = write_tflite(graph)
    packed = None if container is None else pack(tflite)
    write_atomically(Path(path), tflite)
    if container is not None and packed is not None:
        write_atomically(Path(container), packed)
    return graph


def exported_graph(
    model: keras.Model,
    float_io: bool = False,
    portable: bool = False,
    storage: str = "int8",
    scale_dtype: str = "float32",
) -> Graph:
    """Returns the integer graph that `export_tflite` writes with these arguments, and raises what it does."""
    if storage not in STORAGES:
        raise ValueError(f"`storage` is one of {', '.join(STORAGES)}. Received: storage={storage!r}")
    if portable and storage == "int4":
        raise ValueError('Portable weights take 6 bits. Leave out `portable`, or `storage="int4"`.')
    if scale_dtype not in SCALE_DTYPES:
        raise ValueError(f"`scale_dtype` is one of {', '.join(SCALE_DTYPES)}. Received: scale_dtype={scale_dtype!r}")
    graph = lower(model, float_io, scale_dtype)
    if portable:
        return portable_form(graph)
    return int4_storage(graph) if storage == "int4" else graph


def verify(
    model: keras.Model,
    path: str | Path,
    samples: Samples,
    runtimes: Sequence[str] = DEFAULT_RUNTIMES,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares every tensor of a `.tflite` on the runtimes that are here with the simulator of its model.

    A file with int4 weights runs on the reference kernels of LiteRT and TensorFlow instead of their default ones,
    which the report tells.

    Args:
        model: the quantized model the file was exported from.
        path: the `.tflite`.
        samples: what the Keras model takes: one array (batch, ...), or one an input, by position or name.
        runtimes: names of `tfqreg.export.runtimes.RUNTIMES`; LiteRT, TensorFlow and tflite-runtime by default.
        progress: called with the number of samples compared since the last call. Default none.

    Raises:
        ValueError: when samples do not fit the model, or the file is not this model's.
    """
    tflite = read_tflite(path)
    found = _ends_of_file(tflite, path)
    graph = _lowered_like(model, any(dtype == "float32" for _, dtype in found[0]), tflite)
    if found != _ends(graph):
        raise ValueError(
            f"{path}: this file is another model's. Its inputs and outputs must be {_ends(graph)}. Received: {found}"
        )
    inexact = _EXACT_WITH_INT4 if holds_int4(graph) else {}
    compared = dict.fromkeys(inexact.get(name, name) for name in runtimes)
    report = compare(graph, tflite, graph_inputs(graph, samples), list(compared), progress)
    for name in runtimes:
        if name in inexact:
            report.skipped[name] = f"its kernels for int4 weights are not exact; see {inexact[name]}"
    return report


def _lowered_like(model: keras.Model, float_io: bool, tflite: bytes) -> Graph:
    """Returns the graph of a model in the form, and with scales of the type, that a file holds."""
    graph = _form_of(lower(model, float_io), tflite)
    if _has_bfloat16_scales(tflite) and write_tflite(graph) != tflite:
        return _form_of(lower(model, float_io, "bfloat16"), tflite)
    return graph


def _has_bfloat16_scales(tflite: bytes) -> bool:
    kernels = [constant for constant in locate(tflite)[0] if constant.name.endswith("/kernel scale")]
    scales = [np.frombuffer(tflite, np.uint32, constant.size // 4, constant.start) for constant in kernels]
    return not any((part & 0xFFFF).any() for part in scales)


def _form_of(graph: Graph, tflite: bytes) -> Graph:
    """Returns the form of a graph that a file holds; the graph itself for a file of another model."""
    for form in (int4_storage, portable_form) if write_tflite(graph) != tflite else ():
        with suppress(ValueError):  # many a graph has no portable form
            candidate = form(graph)
            if write_tflite(candidate) == tflite:
                return candidate
    return graph


def read_tflite(path: str | Path) -> bytes:
    """Returns the bytes of a `.tflite`; raises ValueError for a file that is none."""
    data = Path(path).read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError(f"{path}: this is no .tflite file. Received: {len(data)} bytes, starting {data[:8]!r}")
    return data


def graph_inputs(graph: Graph, samples: Samples) -> Arrays:
    """Returns a graph's inputs for samples in the model's own units, rounded to the input's grid where that is int8.

    Raises:
        ValueError: for samples of a wrong number, shape or dtype.
    """
    arrays = [samples] if isinstance(samples, np.ndarray) else samples
    if not isinstance(arrays, dict):
        if len(arrays) != len(graph.inputs):
            raise ValueError(f"Give one array for each input {graph.inputs}. Received: {len(arrays)} arrays")
        arrays = dict(zip(graph.inputs, arrays, strict=True))
    return {name: _on_grid(graph, name, array) for name, array in arrays.items()}


def _on_grid(graph: Graph, name: str, array: np.ndarray) -> np.ndarray:
    tensor = graph.tensors.get(name)
    if tensor is None or name not in graph.inputs:
        raise ValueError(f"{name}: the model has no such input. Its inputs: {graph.inputs}")
    if array.shape[1:] != tensor.shape[1:] or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{name}: samples must be numbers of shape (batch, {', '.join(map(str, tensor.shape[1:]))}). "
            f"Received: {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: samples hold NaN or infinity. Received: {int((~np.isfinite(array)).sum())} of them")
    if tensor.quantization is None:
        return array.astype(np.float32)
    grid = tensor.quantization
    codes = np.rint(array.astype(np.float32) / grid.scale) + grid.zero_point
    return np.clip(codes, -128, 127).astype(np.int8)


def _ends(graph: Graph) -> list[list[tuple[str, str]]]:
    return [[(name, graph.tensors[name].dtype) for name in names] for names in (graph.inputs, graph.outputs)]


def _ends_of_file(tflite: bytes, path: str | Path) -> list[list[tuple[str, str]]]:
    """Returns name and dtype of the inputs and of the outputs."""
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()}
    try:
        subgraph: Any = schema.ModelT.InitFromPackedBuf(tflite).subgraphs[0]  # type: ignore[index]
        return [
            [(tensor.name.decode(), dtypes[tensor.type]) for tensor in (subgraph.tensors[i] for i in ends)]
            for ends in (subgraph.inputs, subgraph.outputs)
        ]
    except Exception as error:  # FlatBuffers' Python reader checks nothing: damage ends in whatever it trips over.
        raise ValueError(f"{path}: this .tflite file is damaged. Received: {len(tflite)} bytes") from error
