"""`verify`: whether a `.tflite` equals the simulator of its model, on every runtime that is
installed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np

from tfqreg.errors import ModelError

from ..container.tflite.locate import locate
from ..flatbuffer.read import ends_of_file, read_tflite
from ..flatbuffer.write import write_tflite
from ..forms.int4 import holds_int4, int4_storage
from ..forms.portable import portable as portable_form
from ..ir import Graph
from ..lowering.lower import lower
from .compare import Report, compare
from .runtimes import DEFAULT_RUNTIMES
from .samples import Samples, graph_inputs

# What computes the same with int4 weights: the default kernels for them are not exact.
_EXACT_WITH_INT4 = {"litert": "litert-ref", "tensorflow": "tensorflow-ref"}


def verify(
    model: keras.Model,
    path: str | Path,
    samples: Samples,
    runtimes: Sequence[str] = DEFAULT_RUNTIMES,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares every tensor of a `.tflite` on the runtimes that are here with the simulator of its
    model.

    A file with int4 weights runs on the reference kernels of LiteRT and TensorFlow instead of their
    default ones, which the report tells.

    Args:
        model: the quantized model the file was exported from.
        path: the `.tflite`.
        samples: what the Keras model takes: one array (batch, ...), or one an input, by position or
            name.
        runtimes: names of `tfqreg.export.verification.runtimes.RUNTIMES`; LiteRT, TensorFlow and
            tflite-runtime by default.
        progress: called with the number of samples compared since the last call. Default none.

    Raises:
        ValueError: when samples do not fit the model, or the file is not this model's.
    """
    tflite = read_tflite(path)
    found = ends_of_file(tflite, path)
    graph = _lowered_like(model, any(dtype == "float32" for _, dtype in found[0]), tflite)
    if found != _ends(graph):
        raise ModelError(
            str(path),
            "this file is another model's",
            f"Its inputs and outputs must be {_ends(graph)}",
            str(found),
        )
    inexact = _EXACT_WITH_INT4 if holds_int4(graph) else {}
    compared = dict.fromkeys(inexact.get(name, name) for name in runtimes)
    report = compare(graph, tflite, graph_inputs(graph, samples), list(compared), progress)
    for name in runtimes:
        if name in inexact:
            report.skipped[name] = (
                f"its kernels for int4 weights are not exact; see {inexact[name]}"
            )
    return report


def _lowered_like(model: keras.Model, float_io: bool, tflite: bytes) -> Graph:
    """Returns the graph of a model in the form, and with scales of the type, that a file holds."""
    graph = _form_of(lower(model, float_io), tflite)
    if _has_bfloat16_scales(tflite) and write_tflite(graph) != tflite:
        return _form_of(lower(model, float_io, "bfloat16"), tflite)
    return graph


def _has_bfloat16_scales(tflite: bytes) -> bool:
    kernels = [
        constant for constant in locate(tflite)[0] if constant.name.endswith("/kernel scale")
    ]
    scales = [
        np.frombuffer(tflite, np.uint32, constant.size // 4, constant.start) for constant in kernels
    ]
    return not any((part & 0xFFFF).any() for part in scales)


def _form_of(graph: Graph, tflite: bytes) -> Graph:
    """Returns the form of a graph that a file holds; the graph itself for a file of another model."""
    for form in (int4_storage, portable_form) if write_tflite(graph) != tflite else ():
        with suppress(ValueError):  # many a graph has no portable form
            candidate = form(graph)
            if write_tflite(candidate) == tflite:
                return candidate
    return graph


def _ends(graph: Graph) -> list[list[tuple[str, str]]]:
    return [
        [(name, graph.tensors[name].dtype) for name in names]
        for names in (graph.inputs, graph.outputs)
    ]
