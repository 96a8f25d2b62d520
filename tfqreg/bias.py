r"""Empirical bias correction: rounding the weights must not move the mean of a channel.

    b_c <- b_c - (E[y_hat_c] - E[y_c])

over the calibration data, with `y` a layer's output in the float net and `y_hat` in the net of
quantized weights whose earlier layers are corrected already (Nagel et al. 2019, arXiv 1906.04721,
section 4.2). Where BatchNormalization follows, its moving mean takes the correction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.graph.flat import flatten
from tfqreg.layers import Quantized
from tfqreg.layers.kernel import Stage
from tfqreg.layers.queries import quantized_layers

Means = dict[Quantized, list[np.ndarray]]


class BiasCorrection:
    """Measures what the rounding of weights does to the means of channels, and mends it.

    Each batch goes through the model twice, first within `reference()`, then within `correcting()`;
    `apply` comes last.

    Args:
        model: a model with wrapped layers; those with neither a bias nor a BatchNormalization of
            their own stay as they are.
    """

    def __init__(self, model: keras.Model) -> None:
        self.wrappers = quantized_layers(model)
        self.targets = _targets(model, self.wrappers)
        self.shifts: dict[Quantized, np.ndarray] = {}
        self.calls = dict.fromkeys(self.targets, 0)
        self.expected: Means = {}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Lets the model compute with float weights; keeps its means for `correcting()`."""
        self.expected = {wrapper: [] for wrapper in self.targets}

        def note(wrapper: Quantized, y: Any) -> Any:
            self.expected[wrapper].append(_means(wrapper, y))
            return y

        with float_weights(self.wrappers), _intercepted(list(self.targets), note):
            yield

    @contextmanager
    def correcting(self) -> Iterator[None]:
        """Lets the model compute with what is corrected so far, and averages in this batch."""

        def correct(wrapper: Quantized, y: Any) -> Any:
            # `calibrate` reports NaN by the name of its layer.
            with np.errstate(invalid="ignore", over="ignore"):
                moved = _means(wrapper, y) - self.expected[wrapper].pop(0)
                self.calls[wrapper] += 1
                shift = self.shifts.get(wrapper, np.zeros_like(moved))
                self.shifts[wrapper] = shift = shift + (moved - shift) / self.calls[wrapper]
            axis = _channel_axis(wrapper, y)
            return y - np.reshape(shift, [-1 if i == axis else 1 for i in range(len(y.shape))])

        with _intercepted(list(self.targets), correct):
            yield

    def apply(self) -> None:
        """Adds the corrections to the biases and moving means."""
        for wrapper, shift in self.shifts.items():
            variable, sign = self.targets[wrapper]
            variable.assign(ops.convert_to_numpy(variable) + sign * shift)


@contextmanager
def float_weights(wrappers: list[Quantized]) -> Iterator[None]:
    """Lets wrapped layers compute with their float weights, as long as the context lasts."""
    kernels = [kernel for wrapper in wrappers for kernel, _ in wrapper.kernel_pairs()]
    stages = [int(kernel.stage) for kernel in kernels]
    try:
        for kernel in kernels:
            kernel.stage.assign(Stage.PRUNE)  # in which weights are float
        yield
    finally:
        for kernel, stage in zip(kernels, stages, strict=True):
            kernel.stage.assign(stage)


def _targets(
    model: keras.Model, wrappers: list[Quantized]
) -> dict[Quantized, tuple[keras.Variable, float]]:
    """Returns the variable that moves the mean of each layer's output, and in which direction."""
    norms = _norms(model)
    found = {}
    for wrapper in wrappers:
        if not hasattr(wrapper.layer, "activation"):
            continue  # what comes before its activation cannot be seen
        bias = getattr(wrapper.layer, "bias", None)
        if bias is not None and len(bias.shape) == 1:
            found[wrapper] = bias, -1.0
        elif wrapper in norms and wrapper.layer.activation in (None, keras.activations.linear):
            found[wrapper] = norms[wrapper].moving_mean, 1.0
    return found


def _norms(model: keras.Model) -> dict[Quantized, keras.layers.BatchNormalization]:
    """Returns the BatchNormalization that follows a layer, if neither has another partner."""
    try:
        nodes = flatten(model).nodes
    except TypeError:  # a subclassed model has no graph
        return {}
    after: dict[Any, set[Any]] = {}
    before: dict[Any, set[Any]] = {}
    for node in nodes:
        for edge in node.inputs:
            producer = edge.producer.operation if edge.producer else None
            before.setdefault(node.operation, set()).add(producer)
            after.setdefault(producer, set()).add(node.operation)
        if any(edge.is_output for edge in node.outputs):
            after.setdefault(node.operation, set()).add(None)
    pairs = [
        (wrapper, *consumers)
        for wrapper, consumers in after.items()
        if isinstance(wrapper, Quantized)
    ]
    return {
        pair[0]: pair[1]
        for pair in pairs
        if len(pair) == 2
        and isinstance(pair[1], keras.layers.BatchNormalization)
        and len(before[pair[1]]) == 1
    }


@contextmanager
def _intercepted(
    wrappers: list[Quantized], function: Callable[[Quantized, Any], Any]
) -> Iterator[None]:
    """Has every layer's output before the activation pass through `function(wrapper, y)`."""
    activations = [wrapper.layer.activation for wrapper in wrappers]
    try:
        for wrapper, activation in zip(wrappers, activations, strict=True):
            after = activation or keras.activations.linear
            wrapper.layer.activation = lambda y, wrapper=wrapper, after=after: after(
                function(wrapper, y)
            )
        yield
    finally:
        for wrapper, activation in zip(wrappers, activations, strict=True):
            wrapper.layer.activation = activation


def _channel_axis(wrapper: Quantized, y: Any) -> int:
    return (
        1 if getattr(wrapper.layer, "data_format", None) == "channels_first" else len(y.shape) - 1
    )


def _means(wrapper: Quantized, y: Any) -> np.ndarray:
    axis = _channel_axis(wrapper, y)
    return ops.convert_to_numpy(ops.mean(y, [i for i in range(len(y.shape)) if i != axis]))
