"""A whole integer graph as one Keras layer."""

from typing import Any

import keras

from ..ir import Graph, Quantization, Tensor
from ..kernels.call import Call
from .steps import step
from .values import codes, dequantize, quantize, tf


class IntegerGraph(keras.layers.Layer):
    """Runs a graph's operators in order."""

    def __init__(self, graph: Graph, dequantized: bool, mode: str) -> None:
        super().__init__(trainable=False, name="integer_graph")
        # XLA may fuse a product and a sum into one rounding, and knows no numpy function.
        self.supports_jit = False
        self._graph, self._dequantized = graph, dequantized
        self._steps = []
        for op in graph.ops:
            call = Call(
                op,
                tuple(graph.tensors[name] for name in op.inputs),
                graph.tensors[op.outputs[0]],
                mode,
            )
            sources = tuple(tensor.name for tensor in call.inputs if tensor.data is None)
            self._steps.append((sources, op.outputs[0], step(call)))

    def call(self, inputs: list[Any]) -> list[Any]:
        """Returns the graph's outputs."""
        tensors = self._graph.tensors
        # A GPU's convolutions may round: TF32, Winograd.
        with tf.device("CPU"):
            values = {
                name: x if tensors[name].dtype == "float32" else quantize(x, _grid(tensors[name]))
                for name, x in zip(self._graph.inputs, inputs, strict=True)
            }
            for sources, target, run in self._steps:
                values[target] = run(*(values[name] for name in sources))
            return [self._output(values[name], tensors[name]) for name in self._graph.outputs]

    def _output(self, x: Any, tensor: Tensor) -> Any:
        if not self._dequantized:
            return codes(x, tensor)
        return x if tensor.quantization is None else dequantize(x, _grid(tensor))


def _grid(tensor: Tensor) -> Quantization:
    """Returns the int8 grid of a tensor; that of a uint8 end is moved by 128."""
    grid = tensor.quantization
    assert grid is not None
    return grid if tensor.dtype == "int8" else Quantization(grid.scale, grid.zero_point - 128)
