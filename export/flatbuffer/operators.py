"""The operators a `.tflite` may hold: the version of each, and its options."""

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_ACTIVATION = {"NONE": 0, "RELU": 1, "RELU6": 3}
_PADDING = {"SAME": 0, "VALID": 1}


def _window(a: Any) -> dict[str, Any]:
    return {"padding": _PADDING[a["padding"]], "strideH": a["stride"][0], "strideW": a["stride"][1]}


def _fused(a: Any) -> dict[str, Any]:
    return {"fusedActivationFunction": _ACTIVATION[a.get("activation", "NONE")]}


def _dilation(a: Any) -> dict[str, Any]:
    high, wide = a.get("dilation", (1, 1))
    return {"dilationHFactor": high, "dilationWFactor": wide}


def _pool(a: Any) -> Any:
    high, wide = a["filter"]
    return schema.Pool2DOptionsT(**_window(a), **_fused(a), filterHeight=high, filterWidth=wide)


# The version is the lowest that stands for the int8 kernel: old runtimes refuse the higher ones.
# None: the operator has no options that anything reads.
OPERATORS: dict[str, tuple[int, Callable[[Any], Any] | None]] = {
    "ADD": (2, lambda a: schema.AddOptionsT(**_fused(a))),
    "ARG_MAX": (2, lambda a: schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32)),
    "AVERAGE_POOL_2D": (2, _pool),
    "CAST": (
        1,
        lambda a: schema.CastOptionsT(
            inDataType=schema.TensorType.INT8, outDataType=schema.TensorType.INT32
        ),
    ),
    "CONCATENATION": (2, lambda a: schema.ConcatenationOptionsT(axis=a["axis"])),
    "CONV_2D": (3, lambda a: schema.Conv2DOptionsT(**_window(a), **_fused(a), **_dilation(a))),
    "DEPTHWISE_CONV_2D": (
        3,
        lambda a: schema.DepthwiseConv2DOptionsT(
            **_window(a), **_fused(a), **_dilation(a), depthMultiplier=a["depth_multiplier"]
        ),
    ),
    "DEPTH_TO_SPACE": (1, lambda a: schema.DepthToSpaceOptionsT(blockSize=a["block_size"])),
    "DEQUANTIZE": (2, None),
    "FULLY_CONNECTED": (
        4,
        lambda a: schema.FullyConnectedOptionsT(**_fused(a), keepNumDims=a.get("keep_dims", False)),
    ),
    "GATHER": (2, lambda a: schema.GatherOptionsT(axis=a["axis"])),
    "HARD_SWISH": (1, None),
    "L2_NORMALIZATION": (2, lambda a: schema.L2NormOptionsT()),
    "LEAKY_RELU": (2, lambda a: schema.LeakyReluOptionsT(alpha=a["alpha"])),
    "LOGISTIC": (2, None),
    "MAXIMUM": (2, None),
    "MAX_POOL_2D": (2, _pool),
    "MEAN": (2, lambda a: schema.ReducerOptionsT(keepDims=a["keep_dims"])),
    "MINIMUM": (2, None),
    "MUL": (2, lambda a: schema.MulOptionsT(**_fused(a))),
    "PAD": (2, None),
    "PRELU": (1, None),
    "QUANTIZE": (1, None),
    "REDUCE_MAX": (2, lambda a: schema.ReducerOptionsT(keepDims=a["keep_dims"])),
    "REDUCE_MIN": (2, lambda a: schema.ReducerOptionsT(keepDims=a["keep_dims"])),
    "RELU": (2, None),
    "RELU6": (2, None),
    "RESHAPE": (1, lambda a: schema.ReshapeOptionsT(newShape=[-1, *a["shape"][1:]])),
    "RESIZE_BILINEAR": (
        3,
        lambda a: schema.ResizeBilinearOptionsT(halfPixelCenters=a["half_pixel_centers"]),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (
        3,
        lambda a: schema.ResizeNearestNeighborOptionsT(halfPixelCenters=a["half_pixel_centers"]),
    ),
    "REVERSE_V2": (1, None),
    "SOFTMAX": (2, lambda a: schema.SoftmaxOptionsT(beta=a.get("beta", 1.0))),
    "SPACE_TO_DEPTH": (1, lambda a: schema.SpaceToDepthOptionsT(blockSize=a["block_size"])),
    # The batch, the first axis, is taken whole.
    "STRIDED_SLICE": (2, lambda a: schema.StridedSliceOptionsT(beginMask=1, endMask=1)),
    "SUB": (2, lambda a: schema.SubOptionsT(**_fused(a))),
    "TANH": (2, None),
    "TRANSPOSE": (2, None),
    "TRANSPOSE_CONV": (3, lambda a: schema.TransposeConvOptionsT(**_window(a))),
}
