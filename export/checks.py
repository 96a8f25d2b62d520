"""`check`: all that keeps a model from its integer file or its target, before any training."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from tfqreg.graph.flat import clone, flatten, rebuild, set_weights_of
from tfqreg.graph.patterns import opened, rewrite
from tfqreg.layers import ActivationQuantizer, QuantizedActivation
from tfqreg.layers.quantized import check_kernel, kernel_names
from tfqreg.layers.queries import activation_layers, quantized_layers
from tfqreg.wrap import quantize

from .finding import Finding
from .flatbuffer.write import write_tflite
from .lowering.builder import used
from .lowering.lower import (
    ALL_ZEROS,
    is_supported,
    lower_in_part,
    unsupported_error,
    zero_kernels,
)
from .targets.processors import processor_findings
from .targets.rules import load_target, target_findings


def check(model: keras.Model, target: str | None = None) -> list[Finding]:
    """Returns what keeps a model from its integer `.tflite`, and that from a target.

    The list is empty if nothing does.

    A float model is quantized in a copy; missing scales are made up; then `export_tflite`'s own
    lowering goes over it. A model without an "error" here is exported once it is quantized and
    calibrated. A "warning" keeps nothing from it.

    Args:
        model: a float model, or one that `tfqreg.quantize` returned; trained or not.
        target: a name of `tfqreg.export.target_names()`, such as "ethos-u55-128";
            none by default.

    Raises:
        ModelError: if there is no such target.

    Example:
        >>> contrast = keras.layers.AutoContrast(name="contrast")
        >>> [found.path for found in check(keras.Sequential([keras.Input((8, 8, 3)), contrast]))]
        ['contrast']
    """
    rules = None if target is None else load_target(target)
    try:
        findings: list[Finding] = []
        quantized = bool(quantized_layers(model) or activation_layers(model))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights: what they say are findings here
            prepared = model if quantized else quantize(_sound_copy(opened(model), findings))
        with _scales_set(prepared) as unset:
            graph, problems = lower_in_part(prepared)
    except (TypeError, ValueError) as error:
        return [Finding.of(error, type(model).__name__)]
    if quantized and unset:
        received = f"{len(unset)} quantizers without a scale"
        fix = "Train the model, or call tfqreg.calibrate(model, data)"
        findings.append(
            Finding(unset[0].name, "its scale is not set yet", received, fix, "warning")
        )
    nodes = [*flatten(prepared).nodes, *flatten(model).nodes]
    kinds = {node.path: type(node.operation).__name__ for node in nodes}
    known = {finding.path for finding in findings}
    lowered = (Finding.of(error) for error in problems)
    findings += [
        replace(f, received=f.received or kinds.get(f.path, "input"))
        for f in lowered
        if f.path not in known
    ]
    findings += [
        Finding(
            name,
            ALL_ZEROS,
            f"shape={graph.tensors[name].shape}",
            "Load trained weights, lower the sparsity of its rule, or take the layer out",
            "warning",
        )
        for name in zero_kernels(graph)
    ]
    if rules is not None and graph.ops:
        lowered_part = graph if problems else used(graph)
        findings += target_findings(write_tflite(lowered_part), rules)
        findings += processor_findings(lowered_part, rules)
    return findings


def _sound_copy(model: keras.Model, findings: list[Finding]) -> keras.Model:
    """Returns the model, or a copy without what `quantize` refuses, which becomes findings."""
    layers = {
        id(n.operation): n
        for n in flatten(model).nodes
        if isinstance(n.operation, keras.layers.Layer)
    }
    unsupported = {
        key: node
        for key, node in layers.items()
        if not is_supported(node) and rewrite(node.operation) is None
    }
    findings += [Finding.of(unsupported_error(node)) for node in unsupported.values()]
    broken = {}
    for key, node in layers.items():
        for name in kernel_names(node.operation):
            try:
                check_kernel(
                    ops.convert_to_numpy(getattr(node.operation, name)), f"{node.path}/{name}"
                )
            except ValueError as error:
                findings.append(Finding.of(error))
                broken[key] = name
    if not findings:
        return model
    pairs: list[tuple[Any, Any]] = []

    def renew(path: str, operation: Any) -> Any:
        if id(operation) in unsupported:
            return _StandIn(operation)
        new = clone(operation)
        pairs.append((operation, new))
        return new

    copy = rebuild(model, renew)
    set_weights_of(pairs)
    for old, new in pairs:
        if id(old) in broken:
            kernel = getattr(new, broken[id(old)])
            kernel.assign(ops.ones_like(kernel))
    return copy


class _StandIn(keras.layers.Layer):
    """An operation without an integer form, in a layer that can be cloned though it may not."""

    def __init__(self, operation: Any) -> None:
        super().__init__(name=operation.name)
        # In a function: an attribute would make the user's layer a part of this one.
        self._operation = lambda: operation
        self.built = True

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self._operation().compute_output_spec(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {"operation": self._operation()}


@contextmanager
def _scales_set(model: keras.Model) -> Iterator[list[ActivationQuantizer]]:
    """Gives activation quantizers without a scale one while the context lasts; yields those.

    Equal scales would hide where a tensor changes its grid.
    """
    unset = [
        layer
        for layer in activation_layers(model)
        if isinstance(layer, QuantizedActivation) and bool(layer.base_scale == 0)
    ]
    try:
        for index, layer in enumerate(unset):
            # Of the size of trained ones: -4 to 4 in 8 bits.
            layer.base_scale.assign(2.0**-5 * (1 + index / 1024))
            layer.low.assign(0 if layer.signed is False else -(2 ** (layer.bits - 1)))
        yield unset
    finally:
        for layer in unset:
            layer.base_scale.assign(0)
            layer.low.assign(0)
