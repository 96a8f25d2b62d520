"""Layers that move values without computing."""

import keras
import numpy as np

from tfqreg.errors import ModelError
from tfqreg.graph.flat import Node
from tfqreg.graph.roles import reduced_axes

from .builder import Builder, Open, Value
from .common import Lowering, channels_last, padded, same_value
from .shapes import static_shape

# TensorFlow Lite for Microcontrollers transposes 5 axes at most; up to 4, axes stay as they are.
_PLAIN_RANK = 4


def _concatenation(builder: Builder, node: Node) -> Value:
    sources = tuple(builder.integer(edge, node.path) for edge in node.inputs)
    shape = static_shape(node.outputs[0], node.path)
    axis = node.operation.axis % len(shape)
    if axis == 0:
        raise ModelError(
            node.path, "samples cannot be joined, the batch is open", received="axis=0"
        )
    opened = Open("CONCATENATION", sources, shape, node.path, {"axis": axis})
    grids = {
        (builder.grid(name).zero_point, float(builder.grid(name).scale[0])) for name in sources
    }
    # Inputs on one grid leave nothing to wait for.
    return builder.close(opened, builder.grid(sources[0])) if len(grids) == 1 else opened


def _reshape(builder: Builder, node: Node) -> Value:
    source, shape = (
        builder.integer(node.inputs[0], node.path),
        static_shape(node.outputs[0], node.path),
    )
    if np.prod(shape) != np.prod(builder.shape(source)):
        raise ModelError(
            node.path,
            "the batch must stay the first axis",
            "Keep it out of what is reshaped",
            f"{node.inputs[0].shape} to {node.outputs[0].shape}",
        )
    return builder.reshaped(source, shape, node.path)


def _zero_padding(builder: Builder, node: Node) -> Value:
    channels_last(node.operation, node.path)
    widths = node.operation.padding
    widths = [widths] if isinstance(widths[0], int) else widths
    paddings = np.array([(0, 0), *widths, (0, 0)], np.int32)
    return padded(builder, builder.integer(node.inputs[0], node.path), paddings, node.path)


def _pad(builder: Builder, node: Node) -> Value:
    value = node.kwargs.get("constant_values", (*node.args, None, None)[1])
    paddings = np.array(node.operation.pad_width, np.int32)
    if (
        node.operation.mode != "constant"
        or value
        or paddings.shape != (len(node.inputs[0].shape), 2)
        or paddings[0].any()
    ):
        raise ModelError(
            node.path,
            "only zeros can be padded, beside the samples",
            "Use mode='constant' and constant_values=0",
            f"mode={node.operation.mode!r}, constant_values={value}, "
            f"pad_width={node.operation.pad_width}",
        )
    return padded(builder, builder.integer(node.inputs[0], node.path), paddings, node.path)


def _transpose(builder: Builder, node: Node) -> Value:
    order = _permutation(node)
    if order[0] != 0:
        raise ModelError(node.path, "the batch must stay the first axis", received=f"axes={order}")
    source = builder.integer(node.inputs[0], node.path)
    # Axes that stay neighbours are one: runtimes transpose few axes, and fast.
    runs = _runs(order) if len(order) > _PLAIN_RANK else [[axis] for axis in order]
    sizes, kept = builder.shape(source), sorted(runs)
    merged = builder.reshaped(source, tuple(int(np.prod([sizes[i] for i in run])) for run in kept))
    permutation = np.array([kept.index(run) for run in runs], np.int32)
    shape = tuple(builder.shape(merged)[i] for i in permutation)
    order_name = builder.constant(f"{node.path}/permutation", permutation)
    output = builder.moved("TRANSPOSE", merged, shape, node.path, order_name)
    return builder.reshaped(output, static_shape(node.outputs[0], node.path))


def _permutation(node: Node) -> list[int]:
    """Returns which input axis each output axis is."""
    operation, rank = node.operation, len(node.inputs[0].shape)
    axes = list(range(rank))
    match type(operation).__name__:
        case "Permute":
            return [0, *operation.dims]
        case "Swapaxes":
            first, second = operation.axis1 % rank, operation.axis2 % rank
            axes[first], axes[second] = second, first
            return axes
        case "Moveaxis":
            moved = {
                to % rank: axis % rank
                for axis, to in zip(operation.source, operation.destination, strict=True)
            }
            rest = iter(axis for axis in axes if axis not in moved.values())
            return [moved[i] if i in moved else next(rest) for i in axes]
    return axes[::-1] if operation.axes is None else [axis % rank for axis in operation.axes]


def _runs(order: list[int]) -> list[list[int]]:
    """Cuts a permutation into runs of consecutive axes, the batch alone."""
    runs = [[0]]
    for axis in order[1:]:
        if len(runs) > 1 and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _blocks(kind: str) -> Lowering:
    def lowering(builder: Builder, node: Node) -> Value:
        channels_last(node.operation, node.path)
        source, shape = (
            builder.integer(node.inputs[0], node.path),
            static_shape(node.outputs[0], node.path),
        )
        return builder.moved(kind, source, shape, node.path, block_size=node.operation.block_size)

    return lowering


def _flip(builder: Builder, node: Node) -> Value:
    value = builder.integer(node.inputs[0], node.path)
    axes = reduced_axes(node.operation, len(node.inputs[0].shape))
    if 0 in axes:
        raise ModelError(
            node.path,
            "samples cannot be flipped, the batch is open",
            received=f"axis={node.operation.axis}",
        )
    for axis in axes:  # the reference kernels turn one axis at a time
        place = builder.constant(f"axis_{axis}", np.array([axis], np.int32))
        value = builder.moved("REVERSE_V2", value, builder.shape(value), node.path, place)
    return value


def _cast(builder: Builder, node: Node) -> Value:
    if not keras.backend.is_float_dtype(node.operation.dtype):
        raise ModelError(
            node.path,
            "a cast to integers rounds in a way of its own",
            "Cast to float32, or after the model",
            f"dtype={node.operation.dtype!r}",
        )
    return same_value(builder, node)


LOWERINGS: dict[str, Lowering] = {
    "Cast": _cast,
    "Concatenate": _concatenation,
    "DepthToSpace": _blocks("DEPTH_TO_SPACE"),
    "Flip": _flip,
    "SpaceToDepth": _blocks("SPACE_TO_DEPTH"),
    "Pad": _pad,
    **dict.fromkeys(("ExpandDims", "Flatten", "Reshape", "Squeeze"), _reshape),
    **dict.fromkeys(("Moveaxis", "Permute", "Swapaxes", "Transpose"), _transpose),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), _zero_padding),
}
