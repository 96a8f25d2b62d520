"""Samples in the model's own units, as the inputs of its integer graph."""

from collections.abc import Sequence

import numpy as np

from tfqreg.batches import broken_samples
from tfqreg.errors import ModelError

from ..ir import Graph

Samples = np.ndarray | Sequence[np.ndarray] | dict[str, np.ndarray]


def graph_inputs(graph: Graph, samples: Samples) -> dict[str, np.ndarray]:
    """Returns a graph's inputs for samples in the model's own units.

    They are rounded to the input's grid if that is int8 or uint8.

    Raises:
        ModelError: for samples of a wrong number, shape or dtype.
    """
    arrays = [samples] if isinstance(samples, np.ndarray) else samples
    if not isinstance(arrays, dict):
        if len(arrays) != len(graph.inputs):
            raise ModelError(
                "",
                f"Give one array for each input {graph.inputs}",
                received=f"{len(arrays)} arrays",
            )
        arrays = dict(zip(graph.inputs, arrays, strict=True))
    return {name: _on_grid(graph, name, array) for name, array in arrays.items()}


def _on_grid(graph: Graph, name: str, array: np.ndarray) -> np.ndarray:
    tensor = graph.tensors.get(name)
    if tensor is None or name not in graph.inputs:
        raise ModelError(name, "the model has no such input", f"Its inputs: {graph.inputs}")
    if array.shape[1:] != tensor.shape[1:] or array.dtype.kind not in "fiu":
        raise ModelError(
            name,
            f"samples must be numbers of shape (batch, {', '.join(map(str, tensor.shape[1:]))})",
            received=f"{array.dtype} of shape {array.shape}",
        )
    if broken := broken_samples(array):
        raise ModelError(
            name, "samples hold NaN or infinity", "Mend them or leave them out", broken
        )
    if tensor.quantization is None:
        return array.astype(np.float32)
    grid = tensor.quantization
    codes = np.rint(array.astype(np.float32) / grid.scale) + grid.zero_point
    limits = np.iinfo(tensor.dtype)
    return np.clip(codes, limits.min, limits.max).astype(tensor.dtype)
