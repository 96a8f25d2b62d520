"""The two calls a user makes: `export_tflite` and `verify`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .container import pack
from .container.files import write_atomically
from .ir import Graph
from .lower import lower
from .simulate import Arrays
from .tflite import write_tflite
from .verify import DEFAULT_RUNTIMES, Report, compare

Samples = np.ndarray | Sequence[np.ndarray] | dict[str, np.ndarray]


def export_tflite(
    model: keras.Model, path: str | Path, container: str | Path | None = None, float_io: bool = False
) -> Graph:
    """Writes a quantized model as an all-integer `.tflite` of builtin operators; returns its integer graph.

    Args:
        model: a trained or calibrated model with quantizers.
        path: the `.tflite` to write; it appears whole or not at all.
        container: a `.tqw` to write beside it, entropy-coded; none by default.
        float_io: float32 inputs and outputs, converted at the ends; int8 by default.

    Raises:
        TypeError, ValueError: as `tfqreg.export.lower.lower`, before anything is written.
        OSError: when a file cannot be written.
    """
    graph = lower(model, float_io)
    tflite = write_tflite(graph)
    packed = None if container is None else pack(tflite)
    write_atomically(Path(path), tflite)
    if container is not None and packed is not None:
        write_atomically(Path(container), packed)
    return graph


def verify(
    model: keras.Model,
    path: str | Path,
    samples: Samples,
    runtimes: Sequence[str] = DEFAULT_RUNTIMES,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares every tensor of a `.tflite` on the runtimes that are here with the simulator of its model.

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
    graph = lower(model, float_io=any(dtype == "float32" for _, dtype in found[0]))
    if found != _ends(graph):
        raise ValueError(
            f"{path}: this file is another model's. Its inputs and outputs must be {_ends(graph)}. Received: {found}"
        )
    return compare(graph, tflite, graph_inputs(graph, samples), runtimes, progress)


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
