"""The role of an operation: what it is to the placement of activation quantizers.

`role` looks at what an operation has or computes first (a kernel, `gain * x + offset`), at its
function next, and at the name of its class last: Keras has the same function as a layer, as an
`Activation` and as an operation of `keras.ops`.
"""

from enum import StrEnum
from typing import Any

import keras

from tfqreg.graph.affine import affine_of, constant_operand, is_scale
from tfqreg.graph.functions import NEVER_NEGATIVE, function_of_one
from tfqreg.layers.quantized import kernel_names

# What these give at inference is their input.
INFERENCE_IDENTITY = (
    "ActivityRegularization",
    "AlphaDropout",
    "AugMix",
    "CutMix",
    "Dropout",
    "Equalization",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "StopGradient",
)
# Rounding commutes with a maximum.
MAXIMA = (
    "Amax",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "Max",
    "MaxPool",
    "MaxPooling1D",
    "MaxPooling2D",
)
# What goes in comes out, elsewhere, in part or with zeros beside it.
MOVES = (
    *MAXIMA,
    "Amin",
    "Cast",
    "CenterCrop",
    "Cropping1D",
    "Cropping2D",
    "DepthToSpace",
    "ExpandDims",
    "Flatten",
    "Flip",
    "GetItem",
    "Min",
    "Moveaxis",
    "Pad",
    "Permute",
    "RandomCrop",
    "Reshape",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Swapaxes",
    "Transpose",
    "UpSampling1D",
    "ZeroPadding1D",
    "ZeroPadding2D",
)
# Their role depends on how they interpolate.
RESIZES = ("Resize", "Resizing", "UpSampling2D")
# The functions that layers and operations of these classes compute.
FUNCTIONS = {
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "LeakyReLU": "leaky_relu",
    "LeakyRelu": "leaky_relu",
    "Normalize": "unit_norm",
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softmax": "softmax",
    "Tanh": "tanh",
    "UnitNormalization": "unit_norm",
}
# Scale, and whether it is signed, of the outputs whose grid TFLite's specification of the operator
# prescribes.
FIXED_GRIDS = {
    "sigmoid": (1 / 256, False),
    "softmax": (1 / 256, False),
    "tanh": (1 / 128, True),
    "unit_norm": (1 / 128, True),
}
# Their operators in TFLite have one grid for input and output.
AVERAGES = ("AveragePool", "AveragePooling1D", "AveragePooling2D")


class Role(StrEnum):
    """What an operation is to the placement of quantizers."""

    WEIGHTED_SUM = "weighted_sum"  # has a kernel: dense layers and convolutions
    NORM = "norm"  # BatchNormalization
    AFFINE = "affine"  # `gain * x + offset` with constants
    SCALE = "scale"  # the same with one positive gain and no offset
    RELU = "relu"
    CLIP = "clip"  # between two numbers, as a ReLU is between zero and none
    HARD_SIGMOID = "hard_sigmoid"
    SUM = "sum"
    PRODUCT = "product"
    MEAN = "mean"
    AVERAGE = "average"  # computes, and stays on its input's grid
    KEEP = "keep"  # moves values without computing, so stays on its input's grid
    CONCAT = "concat"  # stays on the one grid of all its inputs
    FIXED_GRID = "fixed_grid"  # its operator dictates the grid
    FUNCTION = "function"  # of a single number
    OTHER = "other"


ROLE_OF_FUNCTION = {
    "linear": Role.KEEP,
    "relu": Role.RELU,
    "relu6": Role.RELU,
    "hard_sigmoid": Role.HARD_SIGMOID,
    **dict.fromkeys(FIXED_GRIDS, Role.FIXED_GRID),
}
ROLE_OF_CLASS = {
    "BatchNormalization": Role.NORM,
    "Absolute": Role.FUNCTION,
    "Add": Role.SUM,
    "Clip": Role.CLIP,
    "Subtract": Role.SUM,
    "Multiply": Role.PRODUCT,
    "Square": Role.PRODUCT,
    "GlobalAveragePooling1D": Role.MEAN,
    "GlobalAveragePooling2D": Role.MEAN,
    "Mean": Role.MEAN,
    "Concatenate": Role.CONCAT,
    **dict.fromkeys(INFERENCE_IDENTITY + MOVES, Role.KEEP),
    **dict.fromkeys(AVERAGES, Role.AVERAGE),
}
ROLE_OF_INTERPOLATION = {"nearest": Role.KEEP, "bilinear": Role.AVERAGE}


def role(operation: Any) -> Role:
    """Returns what an operation is to the placement of quantizers.

    Example:
        >>> print(role(keras.layers.Dense(3)), role(keras.layers.Flatten()))
        weighted_sum keep
    """
    name = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) and (
        operation.negative_slope or operation.threshold
    ):
        return Role.OTHER  # no ReLU but by the name of its class
    if isinstance(operation, keras.layers.Layer) and kernel_names(operation):
        return Role.WEIGHTED_SUM
    if affine_of(operation) is not None:
        return Role.SCALE if is_scale(operation) else Role.AFFINE
    if name in RESIZES:
        return ROLE_OF_INTERPOLATION.get(operation.interpolation, Role.OTHER)
    if name in ("Maximum", "Minimum"):
        return Role.CONCAT if constant_operand(operation) is None else Role.AVERAGE
    if function_of_one(operation) is not None:
        return Role.FUNCTION
    function = function_name(operation)
    if function is not None:
        return ROLE_OF_FUNCTION.get(function, Role.OTHER)
    return ROLE_OF_CLASS.get(name, Role.OTHER)


def reduced_axes(operation: Any, rank: int) -> list[int]:
    """Returns the axes, in order, that an operation such as a mean reduces."""
    axes = range(rank) if operation.axis is None else keras.tree.flatten(operation.axis)
    return sorted(int(axis) % rank for axis in axes)


def is_never_negative(operation: Any) -> bool:
    """Returns whether an operation gives no negative number, whatever it is given.

    Example:
        >>> is_never_negative(keras.layers.ReLU()), is_never_negative(keras.layers.Dense(2))
        (True, False)
    """
    if role(operation) == Role.CLIP:
        return bool(operation.x_min >= 0)
    return (
        role(operation) in (Role.RELU, Role.HARD_SIGMOID)
        or type(operation).__name__ in NEVER_NEGATIVE
        or activation_name(operation) in ("relu", "relu6")
    )


def function_name(operation: Any) -> str | None:
    """Returns the name of the function that an activation computes, None for any other operation.

    Example:
        >>> function_name(keras.layers.Activation("tanh")), function_name(keras.layers.ReLU())
        ('tanh', 'relu')
    """
    if isinstance(operation, keras.layers.Activation):
        return activation_name(operation)
    return FUNCTIONS.get(type(operation).__name__)


def activation_name(layer: Any) -> str:
    """Returns the name of a layer's activation function, "linear" if it has none."""
    activation = getattr(layer, "activation", None)
    if activation is None:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)
