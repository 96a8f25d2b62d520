"""The integer graph between a Keras model and a `.tflite`, in TFLite's names and layouts.

`lowering` writes it, `simulator` runs it, `flatbuffer` stores it. Weights are int8 codes from the
first moment; no float weight exists here.
"""

from dataclasses import dataclass, field

import numpy as np

from tfqreg.errors import ModelError

Attribute = int | float | str | bool | tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """The grid `real = scale * (stored - zero_point)`.

    `scale` is float32 of shape (1,), or (channels,) along `axis`.
    """

    scale: np.ndarray
    zero_point: int = 0
    axis: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.atleast_1d(np.asarray(self.scale, np.float32)))


@dataclass(frozen=True)
class Tensor:
    """One tensor. Activations carry a leading batch dimension of 1 and no `data`.

    The batch is stored as open, but for a graph with a TRANSPOSE_CONV, which holds the shape of its
    output. dtype: "int8", "int32", "uint8" or "float32"; "int4" for weights whose int8 `data` are
    stored two per byte. Weights are OHWI for CONV_2D (I is that of one group) and TRANSPOSE_CONV,
    1HWO for DEPTHWISE_CONV_2D, (units, inputs) for FULLY_CONNECTED; a bias is int32 at scale `s_in
    * s_w`.
    `bits` is the width of a weight's codes before they were shifted up inside int8 (`stored = code
    << shift`); it is information for reports alone.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    quantization: Quantization | None = None
    data: np.ndarray | None = None
    bits: int = 8
    shift: int = 0


@dataclass(frozen=True)
class Op:
    """One TFLite builtin operator, such as "CONV_2D". `inputs` names tensors in TFLite's order.

    Attributes, each present only if the operator has it: `activation` ("NONE" | "RELU" |
    "RELU6"), `padding` ("SAME" | "VALID"), `stride` (h, w), `dilation` (h, w), `filter` (h, w),
    `depth_multiplier`, `axis`, `keep_dims`, `beta`, `alpha`, `shape`, `block_size`,
    `half_pixel_centers`. TRANSPOSE_CONV reads its output's shape, the weights, the image and the
    bias.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute] = field(default_factory=dict)


@dataclass
class Graph:
    """Tensors by name, operators in execution order, names of inputs and outputs.

    `input_names` and `output_names` are Keras' names for them, which the file's signature holds;
    without them it has none. `exponents` are those of the kernels whose trained scales are powers
    of two, one or one per output channel, by the path of their layer: BatchNorm folds into the
    scales of the tensors.
    `form` is "int8", "int4" or "portable"; `scale_dtype` is what the scales of weights were rounded
    to, "float32" or "bfloat16"; `logits` tells whether softmaxes at the end were left out; `target`
    is what the file is for, a name of `targets`.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    exponents: dict[str, list[int]] = field(default_factory=dict)
    form: str = "int8"
    scale_dtype: str = "float32"
    logits: bool = False
    target: str | None = None

    def add(self, tensor: Tensor) -> str:
        """Adds a tensor under its name; raises ModelError if the name is taken."""
        if tensor.name in self.tensors:
            raise ModelError("", "Two tensors share one name", received=f"name={tensor.name!r}")
        self.tensors[tensor.name] = tensor
        return tensor.name
