"""Weights of at most 4 bits stored as INT4: half the file, on what has operators for it.

Codes go in without the shift that int8 leaves them, so the bias has that much coarser a grid. The
reference kernels are exact. By default LiteRT and TensorFlow do not give INT4 weights to XNNPACK:
they round as gemmlowp does, or as ruy does, next to operators that round as XNNPACK, and no
simulator equals that (benchmarks/results/portable.json: 1 to 29 % of all elements differ).
tflite-runtime's default kernels differ from its reference ones in up to 6 %. Vela refuses it.
"""

from dataclasses import replace

import numpy as np

from ..ir import Graph, Tensor

LARGEST_CODE = 7  # not -8 either: codes are as symmetric as those of int8
# FULLY_CONNECTED takes INT4 with one scale alone in tflite-runtime and TensorFlow Lite for
# Microcontrollers.
_ANY_SCALES = ("CONV_2D", "DEPTHWISE_CONV_2D")
_ONE_SCALE = ("FULLY_CONNECTED",)


def int4_storage(graph: Graph) -> Graph:
    """Returns the graph with int4 weights wherever they fit and every runtime takes them.

    They fit if all codes are within -7 to 7.
    """
    tensors, form = dict(graph.tensors), graph.form
    for op in graph.ops:
        weights = graph.tensors[op.inputs[1]] if op.kind in (*_ANY_SCALES, *_ONE_SCALE) else None
        if weights is not None and _fits(graph, weights):
            for name in op.inputs[1:]:
                tensors[name] = _unshifted(graph.tensors[name], weights.shift)
            tensors[weights.name] = replace(tensors[weights.name], dtype="int4", shift=0)
            form = "int4"
    return replace(graph, tensors=tensors, form=form)


def _fits(graph: Graph, weights: Tensor) -> bool:
    """Whether the codes fit, and so do the operators that read them."""
    if weights.data is None or weights.quantization is None:
        return False
    readers = [op for op in graph.ops if weights.name in op.inputs]
    kinds = _ANY_SCALES if weights.quantization.scale.size > 1 else (*_ANY_SCALES, *_ONE_SCALE)
    small = np.abs(weights.data.astype(np.int16) >> weights.shift).max() <= LARGEST_CODE
    return bool(small) and all(op.kind in kinds for op in readers)


def _unshifted(tensor: Tensor, shift: int) -> Tensor:
    """Returns weights or bias in units `2^shift` as large; the bias is rounded."""
    assert tensor.data is not None and tensor.quantization is not None
    data = np.rint(tensor.data / 2.0**shift).astype(tensor.data.dtype)
    return replace(
        tensor,
        data=data,
        quantization=replace(tensor.quantization, scale=tensor.quantization.scale * 2**shift),
    )
