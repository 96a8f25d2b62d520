"""What cannot be lowered among the layers that move, pool or resize values says which layer it is,
and what to do.
"""

import keras
import pytest
from keras import layers, ops

from tests.export import keras_nets as nets
from tfqreg.export.lowering.lower import lower

IMAGE, ROW = (4, 4, 3), (6, 3)
ERRORS = {
    "dilated transposed conv": (
        IMAGE,
        layers.Conv2DTranspose(2, 3, dilation_rate=2, name="up"),
        "^up: a transposed convolution with dilation has no integer form. Use .* Received: "
        "dilation_rate=\\(2, 2\\)",
    ),
    "channels first": (
        IMAGE,
        layers.Conv2DTranspose(2, 3, data_format="channels_first", name="up"),
        "^up: TFLite is channels last",
    ),
    "einsum over a middle axis": (
        ROW,
        layers.EinsumDense("abc,bd->adc", (5, 3), name="e"),
        "^e: an EinsumDense has an integer form if it contracts the last axes .* Received: "
        "equation='abc,bd->adc'",
    ),
    "einsum with a bias of rows": (
        ROW,
        layers.EinsumDense("abc,cd->abd", (6, 5), bias_axes="b", name="e"),
        "^e: an EinsumDense .* its bias is over the new axes. .* bias_axes='b'",
    ),
    "joined samples": (
        IMAGE,
        lambda x: layers.Concatenate(0, name="join")([x, x]),
        "^join: samples cannot be joined, the batch is open",
    ),
    "split samples": (
        IMAGE,
        lambda x: ops.split(x, 1, axis=0),
        "^split.*: samples cannot be split",
    ),
    "reshaped samples": (
        IMAGE,
        lambda x: ops.reshape(x, (-1, 3)),
        r"^reshape.*: the batch must stay the first axis. .* Received: \(None, 4, 4, 3\) to "
        r"\(None, 3\)",
    ),
    "transposed samples": (
        (4,),
        ops.transpose,
        "^transpose.*: the batch must stay the first axis. Received: axes=\\[1, 0\\]",
    ),
    "one sample": (
        IMAGE,
        lambda x: x[0],
        r"^get_item.*: the batch must be taken whole, as x\[:, ...\]",
    ),
    "backward slice": (
        IMAGE,
        lambda x: x[:, ::-1],
        "^get_item.*: slices take numbers and steps forward, .* Received: slice\\(None, None, "
        "-1\\)",
    ),
    "padding of ones": (
        ROW,
        lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=1.0),
        "^pad.*: only zeros can be padded, beside the samples. .* constant_values=1.0",
    ),
    "reflected padding": (
        ROW,
        lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), "reflect"),
        "^pad.*: only zeros can be padded, .* Received: mode='reflect'",
    ),
    "mean of samples": (
        IMAGE,
        lambda x: ops.mean(x, axis=(0, 1)),
        r"^mean.*: samples cannot be reduced, the batch is open. Name the axes, from 1 on. "
        r"Received: axis=\(0, 1\) of",
    ),
    "argmax of everything": (ROW, ops.argmax, "^argmax.*: samples cannot be reduced"),
    "flip of samples": (ROW, ops.flip, "^flip.*: samples cannot be flipped, the batch is open"),
    "random crop": (
        IMAGE,
        layers.RandomCrop(3, 3, name="crop"),
        "^crop: a RandomCrop leaves an image at its size at inference, .* use layers.CenterCrop",
    ),
    "crop beyond the image": (
        IMAGE,
        layers.CenterCrop(4, 9, name="crop"),
        r"^crop: a CenterCrop has an integer form if the image is no smaller than the crop. .* "
        r"Received: \(4, 4\) to \(4, 9\)",
    ),
    "cast to integers": (ROW, lambda x: ops.cast(x, "int32"), "^cast.*: a cast to integers rounds"),
    "1-norm": (
        ROW,
        lambda x: ops.normalize(x, order=1),
        "^normalize.*: a normalization of vectors has an integer form over one axis, by the "
        "2-norm. .* order=1",
    ),
    "power of a tensor": (
        ROW,
        lambda x: ops.power(ops.sigmoid(x), x),
        "^power.*: a power has an integer form if the exponent or the base is a number",
    ),
    "cubic upsampling": (
        IMAGE,
        layers.UpSampling2D(interpolation="bicubic", name="up"),
        "^up: the interpolation is one of nearest, bilinear. Received: interpolation='bicubic'",
    ),
    "antialiased resizing": (
        IMAGE,
        layers.Resizing(2, 2, antialias=True, name="down"),
        "^down: resizing has no integer form with antialias. Received: antialias=True",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_layer_and_the_remedy(name):
    shape, layer, message = ERRORS[name]
    x = keras.Input(shape, name="x")
    model = nets.calibrated(keras.Model(x, layer(x)))
    with pytest.raises(ValueError, match=message):
        lower(model)
