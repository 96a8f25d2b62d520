"""Every family of mobile networks, small: quantized, calibrated and exported, no element differs on
any runtime.
"""

from functools import partial

import keras
import numpy as np
import pytest

import tfqreg as tq
from benchmarks.helpers.architectures import (
    resnet18,
    shufflenet,
    super_resolution,
    super_resolution_transposed,
)
from benchmarks.helpers.catalogue import Network, application, random_images
from benchmarks.helpers.efficientnet_lite0 import efficientnet_lite0, preprocess
from benchmarks.helpers.pretrained import (
    cifar10_samples,
    imagenet_samples,
    resnet8,
    squeezenet,
    squeezenet_inputs,
)
from tfqreg.export import export_tflite, verify
from tfqreg.export.verification.runtimes import missing

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore:.* lost:UserWarning")]

RUNTIMES = [
    name
    for name in ("litert", "tensorflow", "tflite-runtime-ref", "tflite-micro")
    if missing(name) is None
]
RANDOM = {
    "MobileNet": application("MobileNet", 32, alpha=0.25),
    "MobileNetV2": application("MobileNetV2", 32, alpha=0.35),
    "MobileNetV3Small": application("MobileNetV3Small", 32, high=255.0, alpha=0.5),
    "EfficientNetB0": application("EfficientNetB0", 32, high=255.0),
    "ResNet50": application("ResNet50", 32),
    "DenseNet121": application("DenseNet121", 32),
    "ShuffleNet V1": Network(partial(shufflenet, (32, 32, 3), width=60), random_images),
    "ResNet-18": Network(partial(resnet18, (32, 32, 3), width=16), random_images),
    "super-resolution": Network(partial(super_resolution, (16, 20, 3)), random_images),
    "super-resolution, transposed": Network(
        partial(super_resolution_transposed, (16, 20, 3)), random_images
    ),
}
# Real weights at a size that the graph allows and a test has time for.
TRAINED = {
    "EfficientNet-Lite0": Network(
        partial(efficientnet_lite0, input_size=64),
        lambda _: preprocess(imagenet_samples(64)[0]),
        trained=True,
    ),
    "SqueezeNet 1.1": Network(
        partial(squeezenet, 67), lambda _: squeezenet_inputs(imagenet_samples(67)[0]), trained=True
    ),
    "ResNet-8": Network(resnet8, lambda _: cifar10_samples()[0], trained=True),
}


def assert_exact(model: keras.Model, images: np.ndarray, path) -> None:
    """Exports what post-training quantization makes of a float model, and compares all tensors."""
    quantized = tq.calibrate(tq.quantize(model), images[:4], verbose=0)
    graph = export_tflite(quantized, path)
    report = verify(quantized, path, images[4:6], RUNTIMES)
    assert list(report.runtimes) == RUNTIMES
    assert report.exact, str(report)
    elements = sum(int(np.prod(graph.tensors[op.outputs[0]].shape)) for op in graph.ops)
    assert {part.compared_elements for part in report.runtimes.values()} == {2 * elements}
    assert {graph.tensors[name].dtype for op in graph.ops for name in op.inputs + op.outputs} <= {
        "int8",
        "int32",
    }


@pytest.mark.parametrize("name", RANDOM)
def test_a_family_is_exact(name, tmp_path):
    assert_exact(*RANDOM[name].build(), tmp_path / "m.tflite")


@pytest.mark.parametrize("name", TRAINED)
def test_real_weights_are_exact(name, tmp_path):
    try:
        model, images = TRAINED[name].build()
    except FileNotFoundError as error:
        pytest.skip(str(error))  # names the package and the command that installs it
    assert_exact(model, images, tmp_path / "m.tflite")
