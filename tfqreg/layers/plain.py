"""Convolutions that plain TensorFlow has no kernel for on a CPU, computed by those it has.

With oneDNN TensorFlow runs these eagerly, without it none of them: depthwise convolutions of two
unequal strides, dilated transposed convolutions, and those with channels first. What a model
computes must not depend on that, so they are computed by exact identities on either kind of
processor:

    unequal strides     stride 1, of which the wanted rows and columns are taken
    dilated transposed  one of dilation 1 for each of the d phases of the rows and columns
    channels first      channels last, transposed before and after
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
from keras import ops

Call = Callable[[Any], Any]

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_PLAIN = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@contextmanager
def plain_kernels(layer: Any) -> Iterator[None]:
    """Has a layer's calls use kernels that every TensorFlow has, as long as the context lasts.

    Args:
        layer: any layer; all but the convolutions above are left alone, as are those on backends
            and devices that have the kernels.
    """
    convolve = _plain_form(layer)
    if convolve is None:
        yield
        return
    activation = layer.activation

    def call(inputs: Any) -> Any:
        with _set(layer, activation=None):
            outputs = convolve(inputs)
        return outputs if activation is None else activation(outputs)

    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        object.__delattr__(layer, "call")


def _plain_form(layer: Any) -> Call | None:
    """Returns how to call a convolution without its activation; None to call it as it is."""
    if keras.backend.backend() != "tensorflow":
        return None
    if type(layer) not in (*_DEPTHWISE, *_TRANSPOSED, *_PLAIN):
        return None
    steps: list[Callable[[Any, Call, Any], Any]] = []
    if type(layer) in _DEPTHWISE and len(set(layer.strides)) > 1:  # no device has a kernel
        steps.append(_of_stride_1)
    if _cpu_only() and type(layer) in _TRANSPOSED and max(layer.dilation_rate) > 1:
        steps.append(_of_phases)
    if (steps or _cpu_only()) and layer.data_format == "channels_first":
        steps.append(_channels_last)
    form = layer.call
    for step in steps:
        form = partial(step, layer, form)
    return form if steps else None


def _cpu_only() -> bool:
    return not keras.distribution.list_devices("gpu")


@contextmanager
def _set(layer: Any, **attributes: Any) -> Iterator[None]:
    """Gives a layer other attributes as long as the context lasts."""
    before = {name: getattr(layer, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(layer, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


def _channels_last(layer: Any, call: Call, x: Any) -> Any:
    last = len(x.shape) - 1
    with _set(layer, data_format="channels_last"):
        y = call(ops.transpose(x, (0, *range(2, last + 1), 1)))
    return ops.transpose(y, (0, last, *range(1, last)))


def _of_stride_1(layer: Any, call: Call, x: Any) -> Any:
    strides, rates = layer.strides, layer.dilation_rate
    taken = [slice(None)]
    for n, k, s, d in zip(ops.shape(x)[1:], layer.kernel_size, strides, rates, strict=False):
        reach, begin = (k - 1) * d + 1, 0
        if layer.padding == "same":  # which pads less before the first row than stride 1 does
            largest = max if isinstance(n, int) else ops.maximum
            begin = (reach - 1) // 2 - largest((-(-n // s) - 1) * s + reach - n, 0) // 2
        taken.append(slice(begin, None, s))
    with _set(layer, strides=(1,) * len(strides)):
        return call(x)[tuple(taken)]


def _of_phases(layer: Any, call: Call, x: Any) -> Any:
    rates, rank = layer.dilation_rate, len(layer.dilation_rate)
    sizes = x.shape[1:-1]
    wanted = layer.compute_output_shape(x.shape)[1:-1]
    paddings, inside, cropped = [(0, 0)], [], [slice(None)]
    for n, out, k, d in zip(sizes, wanted, layer.kernel_size, rates, strict=True):
        begin = max(n - 1 + (k - 1) * d + 1 - out, 0) // 2
        phase = -(-max(n, begin + out - (k - 1) * d) // d)  # rows of one phase
        paddings.append((0, phase * d - n))
        inside += [phase, d]
        cropped.append(slice(begin, begin + out))
    x = ops.reshape(ops.pad(x, [*paddings, (0, 0)]), (-1, *inside, x.shape[-1]))
    rows, phases = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    x = ops.transpose(x, (*phases, 0, *rows, 2 * rank + 1))
    x = ops.reshape(x, (-1, *inside[::2], x.shape[-1]))
    with _set(layer, dilation_rate=(1,) * rank, padding="valid", output_padding=None):
        y = call(x)
    y = ops.reshape(y, (*rates, -1, *y.shape[1:]))
    pairs = [axis for i in range(rank) for axis in (rank + 1 + i, i)]
    y = ops.transpose(y, (rank, *pairs, 2 * rank + 1))
    full = [y.shape[1 + 2 * i] * rates[i] for i in range(rank)]
    return ops.reshape(y, (-1, *full, y.shape[-1]))[tuple(cropped)]
