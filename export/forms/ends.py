"""Other types at the ends of an integer graph: uint8, as cameras give it, or float32.

The network between them stays int8. A uint8 end is a QUANTIZE whose codes are moved by 128, so it
is exact on every runtime; a float32 end is a QUANTIZE or a DEQUANTIZE.
"""

from dataclasses import replace

from tfqreg.errors import ModelError

from ..ir import Graph, Op, Quantization, Tensor

END_TYPES = ("int8", "uint8", "float32")


def with_ends(graph: Graph, input_type: str, output_type: str) -> Graph:
    """Returns a graph whose inputs and outputs have other types.

    Args:
        graph: one with int8 ends.
        input_type: of all inputs: "int8", "uint8" or "float32".
        output_type: of all outputs, likewise.

    Raises:
        ModelError: for another type.

    Example:
        >>> from tfqreg.export import lower
        >>> ends = with_ends(lower(model), "uint8", "float32")
        >>> [ends.tensors[name].dtype for name in ends.inputs + ends.outputs]
        ['uint8', 'float32']
    """
    for argument, dtype in (("input_type", input_type), ("output_type", output_type)):
        if dtype not in END_TYPES:
            raise ModelError(
                "",
                f"`{argument}` is one of {', '.join(END_TYPES)}",
                received=f"{argument}={dtype!r}",
            )
    if input_type != "int8":
        graph = _with_inputs(graph, input_type)
    return graph if output_type == "int8" else _with_outputs(graph, output_type)


def _with_inputs(graph: Graph, dtype: str) -> Graph:
    inner = {name: _free(graph, f"{name}_int8") for name in graph.inputs}
    tensors: dict[str, Tensor] = {}
    for name, tensor in graph.tensors.items():
        if name in inner:
            tensors[name] = _end(tensor, name, dtype)
        tensors[inner.get(name, name)] = replace(tensor, name=inner.get(name, name))
    ops = [Op("QUANTIZE", (name,), (inner[name],)) for name in graph.inputs]
    ops += [
        replace(op, inputs=tuple(inner.get(name, name) for name in op.inputs)) for op in graph.ops
    ]
    return replace(graph, tensors=tensors, ops=ops)


def _with_outputs(graph: Graph, dtype: str) -> Graph:
    suffix, kind = ("float", "DEQUANTIZE") if dtype == "float32" else (dtype, "QUANTIZE")
    tensors, ops, outputs = dict(graph.tensors), list(graph.ops), []
    for name in graph.outputs:
        if tensors[name].dtype != "int8":  # an index has no other type
            outputs.append(name)
            continue
        outside = _free(graph, f"{name}_{suffix}")
        tensors[outside] = _end(tensors[name], outside, dtype)
        ops.append(Op(kind, (name,), (outside,)))
        outputs.append(outside)
    return replace(graph, tensors=tensors, ops=ops, outputs=outputs)


def _free(graph: Graph, name: str) -> str:
    """Returns a name that no tensor has."""
    while name in graph.tensors:
        name += "_1"
    return name


def _end(tensor: Tensor, name: str, dtype: str) -> Tensor:
    """Returns the tensor outside that stands for an int8 tensor inside."""
    grid = tensor.quantization
    assert grid is not None
    outside = None if dtype == "float32" else Quantization(grid.scale, grid.zero_point + 128)
    return Tensor(name, tensor.shape, dtype, outside)
