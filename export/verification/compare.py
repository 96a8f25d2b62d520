"""Counts the elements in which a runtime and the simulator differ, over every tensor of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfqreg.errors import ModelError

from ..flatbuffer.write import debug_copy
from ..ir import Graph
from ..kernels.tables import neon_rest
from ..simulator import Arrays, chunks, named_inputs, simulate
from . import runtimes as runners
from .runtimes import DEFAULT_RUNTIMES

_CHUNK_ELEMENTS = 1 << 26  # int8 activations of a batch, all kept: 64 MiB
_MODES = {
    "litert": "f32",
    "litert-aarch64": "arm64",
    "tensorflow": "f32-tf",
    "tflite-runtime-ref": "ref",
    "tflite-runtime-aarch64-ref": "ref",
    "tflite-micro": "ref-micro",
}


@dataclass
class Difference:
    """One tensor's comparison; `max_difference` is in int8 steps, or absolute for float."""

    compared_elements: int = 0
    mismatched_elements: int = 0
    max_difference: float = 0.0

    def add(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Counts one more batch of the tensor."""
        self.compared_elements += expected.size
        # Not `found != expected` alone: a NaN differs from everything.
        self.mismatched_elements += int((found != expected).sum())
        distance = np.abs(found.astype(np.float64) - expected)
        self.max_difference = max(self.max_difference, float(distance.max(initial=0.0)))


@dataclass
class RuntimeReport:
    """One runtime against the simulator in `mode`, tensor by tensor."""

    mode: str
    tensors: dict[str, Difference] = field(default_factory=dict)

    @property
    def compared_elements(self) -> int:
        return sum(t.compared_elements for t in self.tensors.values())

    @property
    def mismatched_elements(self) -> int:
        return sum(t.mismatched_elements for t in self.tensors.values())

    @property
    def max_difference(self) -> float:
        return max((t.max_difference for t in self.tensors.values()), default=0.0)


@dataclass
class Report:
    """How the runtimes compare with the simulator, as text when it is printed.

    Attributes:
        samples: how many were compared.
        runtimes: name of a runtime -> its comparison, tensor by tensor.
        skipped: name of a runtime -> why it could not run here.
        refused: name of a runtime -> why it did not take the model.
    """

    samples: int
    runtimes: dict[str, RuntimeReport] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether something ran, no element differed, and no runtime refused the model."""
        differing = any(r.mismatched_elements for r in self.runtimes.values())
        return bool(self.runtimes) and not differing and not self.refused

    def __str__(self) -> str:
        lines = [
            f"{name}: {r.mismatched_elements} of {r.compared_elements} elements differ, "
            f"by {r.max_difference:g} at most (simulator {r.mode}, {self.samples} samples)"
            for name, r in self.runtimes.items()
        ]
        lines += [f"{name}: refused the model, {why}" for name, why in self.refused.items()]
        return "\n".join(lines + [f"{name}: skipped, {why}" for name, why in self.skipped.items()])


def simulator_mode(runtime: str) -> str:
    """The simulator's mode that a runtime equals."""
    return _MODES.get(runtime.partition("@")[0], "ref-new")


def compare(
    graph: Graph,
    tflite: bytes,
    inputs: Arrays,
    runtimes: Sequence[str] = DEFAULT_RUNTIMES,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compares every tensor of a model, on each runtime, with the simulator.

    Outputs come from the model itself, all other activations from its debug copy. Runtimes that are
    not installed are skipped with the reason; one that refuses the model is left out, with what it
    says.

    Args:
        graph: the integer graph the model was written from.
        tflite: the model.
        inputs: samples, one array (batch, ...) per input, by name or in the graph's order.
        runtimes: names of `tfqreg.export.verification.runtimes.RUNTIMES`.
        progress: called with the number of samples compared since the last call. Default none.

    Raises:
        ModelError: if samples do not fit the graph, the model's tensors are not the graph's, or
            no runtime has a given name.
    """
    arrays = named_inputs(graph, inputs)
    report = Report(len(next(iter(arrays.values()))))
    for runtime in runtimes:
        if reason := runners.missing(runtime):
            report.skipped[runtime] = reason
        else:
            report.runtimes[runtime] = RuntimeReport(simulator_mode(runtime))
    revealed = debug_copy(tflite)
    for chunk in chunks(arrays, _chunk_size(graph)):
        expected = {r.mode: simulate(graph, chunk, r.mode) for r in report.runtimes.values()}
        for runtime, part in list(report.runtimes.items()):
            try:
                parts = runners.run_all([revealed, tflite], chunk, runtime, batch(graph, part.mode))
            except RuntimeError as error:
                report.refused[runtime] = str(error)
                del report.runtimes[runtime]
                continue
            _count(part, parts[0] | parts[1], expected[part.mode])
        if progress is not None:
            progress(len(next(iter(chunk.values()))))
    return report


def batch(graph: Graph, mode: str) -> int:
    """The samples of an invocation at which a runtime equals the simulator's mode.

    One where arm64 computes the end of a tensor in another way than the rest.
    """
    uneven = any(
        op.kind == "HARD_SWISH" and neon_rest(graph.tensors[op.outputs[0]].shape)
        for op in graph.ops
    )
    return 1 if mode == "arm64" and uneven else runners.BATCH


def _count(
    part: RuntimeReport, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    for name, array in expected.items():
        if (
            name not in found
            or found[name].shape != array.shape
            or found[name].dtype != array.dtype
        ):
            raise ModelError(
                name,
                f"the model must be the one written from this graph, whose tensor is {array.dtype} "
                f"{array.shape}",
                received=_describe(found.get(name)),
            )
        part.tensors.setdefault(name, Difference()).add(found[name], array)


def _describe(array: np.ndarray | None) -> str:
    return "no such tensor" if array is None else f"{array.dtype} {array.shape}"


def _chunk_size(graph: Graph) -> int:
    """Samples whose activations, all kept, stay within 64 MiB."""
    elements = sum(int(np.prod(graph.tensors[op.outputs[0]].shape)) for op in graph.ops)
    return max(_CHUNK_ELEMENTS // elements, 1)
