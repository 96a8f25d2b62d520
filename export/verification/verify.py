"""`verify`: whether a `.tflite` equals the simulator of its model on every runtime here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tfqreg.errors import ModelError

from ..export import exported_graph
from ..flatbuffer.read import (
    dtype,
    ends_of_file,
    parse,
    read_form,
    read_tflite,
    tensor_name,
    tensor_shape,
)
from ..ir import Graph
from ..simulator import named_inputs
from ..targets.rules import load_target
from .compare import Report, compare
from .runtimes import DEFAULT_RUNTIMES
from .samples import Samples, graph_inputs

# What computes the same with int4 weights: the default kernels for them are not exact.
_EXACT_WITH_INT4 = {"litert": "litert-ref", "tensorflow": "tensorflow-ref"}


def verify(
    model: keras.Model,
    path: str | Path,
    samples: Samples,
    runtimes: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares every tensor of a `.tflite`, on each runtime here, with its model's simulator.

    A file with int4 weights runs on the reference kernels of LiteRT and TensorFlow instead of their
    default ones, which the report says.

    Args:
        model: the quantized model the file was exported from.
        path: the `.tflite`.
        samples: what the Keras model takes: one array (batch, ...), or one per input, by position
            or name.
        runtimes: "litert", "tensorflow", "tflite-runtime-ref" (the default), "tflite-micro",
            "litert-ref", "tensorflow-ref" or "tflite-runtime"; "litert-aarch64" runs what phones
            run, under qemu (`tfqreg.export.verification.arm_setup` installs it), and is among the
            default ones of a file whose target is "android-arm64".
        progress: called with the number of samples compared since the last call. Default none.

    Raises:
        ModelError: if samples do not fit the model, or the file is not this model's.

    Example:
        >>> import numpy as np
        >>> samples = np.zeros((4, 8, 8, 1), np.float32)
        >>> print(verify(model, "m.tflite", samples, runtimes=["litert"]))
        litert: 0 of ... elements differ, by 0 at most (simulator f32, 4 samples)
    """
    tflite = read_tflite(path)
    try:
        found, form = ends_of_file(tflite), read_form(tflite)
    except ModelError as error:
        raise ModelError(
            str(path), "this .tflite file is damaged", received=error.received
        ) from error
    # Indices, the outputs of an argmax, are int32 in every file.
    input_type, output_type = (
        next((dtype for _, dtype in ends if dtype != "int32"), "int8") for ends in found
    )
    storage = "int4" if form.form == "int4" else "int8"
    graph = exported_graph(
        model,
        False,
        form.form == "portable",
        storage,
        form.scale_dtype,
        form.logits,
        form.target,
        input_type,
        output_type,
    )
    inputs = named_inputs(graph, graph_inputs(graph, samples))
    if (names := names_in_file(graph, tflite)) is not None:
        graph = renamed(graph, names)
        inputs = {names[name]: array for name, array in inputs.items()}
    if runtimes is None:
        runtimes = default_runtimes(form.target)
    if found != _ends(graph):
        raise ModelError(
            str(path),
            "this file is another model's",
            f"Its inputs and outputs must be {_ends(graph)}",
            str(found),
        )
    inexact = _EXACT_WITH_INT4 if form.form == "int4" else {}
    compared = dict.fromkeys(inexact.get(name, name) for name in runtimes)
    report = compare(graph, tflite, inputs, list(compared), progress)
    for name in runtimes:
        if name in inexact:
            report.skipped[name] = (
                f"its kernels for int4 weights are not exact; see {inexact[name]}"
            )
    return report


def names_in_file(graph: Graph, tflite: bytes) -> dict[str, str] | None:
    """Returns the file's name for each tensor of a graph, by position: Keras counts unnamed layers.

    None if the tensors are others.
    """
    tensors = parse(tflite).subgraphs[0].tensors
    found = [(tensor_shape(tensor), dtype(tensor)) for tensor in tensors]
    if found != [(tensor.shape, tensor.dtype) for tensor in graph.tensors.values()]:
        return None
    return dict(zip(graph.tensors, map(tensor_name, tensors), strict=True))


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """Returns a graph whose tensors go by other names."""

    def of(old: Iterable[str]) -> list[str]:
        return [names[name] for name in old]

    return replace(
        graph,
        tensors={names[t.name]: replace(t, name=names[t.name]) for t in graph.tensors.values()},
        ops=[
            replace(o, inputs=tuple(of(o.inputs)), outputs=tuple(of(o.outputs))) for o in graph.ops
        ],
        inputs=of(graph.inputs),
        outputs=of(graph.outputs),
    )


def default_runtimes(target: str | None) -> list[str]:
    """Returns the runtimes that a file for a target is compared with."""
    own = [] if target is None else load_target(target).runtimes
    return list(dict.fromkeys([*DEFAULT_RUNTIMES, *own]))


def _ends(graph: Graph) -> list[list[tuple[str, str]]]:
    return [
        [(name, graph.tensors[name].dtype) for name in names]
        for names in (graph.inputs, graph.outputs)
    ]
