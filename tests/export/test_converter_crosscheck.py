"""TFLiteConverter as an independent witness: one quantized network through fake-quant ops, and
through our lowering.

Both files hold the same operators and, bit for bit, the same weight codes. The scales differ in
float32's last bits, since the converter takes them from ranges. The biases differ where ours drops
bits that move no output (fold.BIAS_STEP): by 1/64 of an output step at most, which rounds an output
to the other side now and then.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import layers, ops

import tfqreg as tq
from benchmarks.helpers.architectures import resnet18
from tests.export import keras_nets as nets
from tfqreg.export import lower, write_tflite
from tfqreg.export.lowering import fold
from tfqreg.export.verification.runtimes import run
from tfqreg.export.verification.samples import graph_inputs
from tfqreg.graph.flat import FlatGraph, flatten
from tfqreg.layers import Quantized, QuantizedActivation

KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items()}
Step = Callable[..., tf.Tensor]


def fake_quant_kernel(wrapper: Quantized) -> Callable[[], tf.Tensor]:
    """The kernel's grid points after a fake-quant op of their range: one of each channel, or one
    of the tensor.
    """
    codes, params = wrapper.encode()["kernel"]
    kernel = ops.convert_to_numpy(wrapper.quantizer.decode(codes, params))
    high = 127 * params["scale"].ravel()
    if high.size == 1:
        fake = tf.quantization.fake_quant_with_min_max_vars
        return lambda: fake(kernel, -high[0], high[0], 8, narrow_range=True)
    fake = tf.quantization.fake_quant_with_min_max_vars_per_channel
    flat = (
        kernel.reshape(*kernel.shape[:-2], -1)
        if isinstance(wrapper.layer, layers.DepthwiseConv2D)
        else kernel
    )
    return lambda: tf.reshape(fake(flat, -high, high, 8, narrow_range=True), kernel.shape)


def with_constants(
    layer: keras.layers.Layer, kernel: Callable[[], tf.Tensor] | None = None
) -> Step:
    """A layer's call with constants for its variables: the converter fuses a BatchNorm of constants
    alone.
    """
    values = [(variable, ops.convert_to_numpy(variable)) for variable in layer.variables]

    def call(*inputs: tf.Tensor) -> tf.Tensor:
        mapping = [
            (variable, kernel() if kernel and variable is layer.kernel else tf.constant(value))
            for variable, value in values
        ]
        with keras.StatelessScope(mapping):
            return layer(inputs[0] if len(inputs) == 1 else list(inputs))

    return call


def step(operation: Any) -> Step:
    """What stands for an operation of the quantized model in the fake-quant graph."""
    if isinstance(operation, QuantizedActivation):
        scale, low = operation.encode()
        high = low + 2**operation.bits - 1
        return lambda x: tf.quantization.fake_quant_with_min_max_vars(
            x, scale * low, scale * high, operation.bits
        )
    if isinstance(operation, Quantized):
        return with_constants(operation.layer, fake_quant_kernel(operation))
    return with_constants(operation)


def converted(graph: FlatGraph) -> bytes:
    """The `.tflite` that TFLiteConverter makes of a quantized model's fake-quant graph."""
    steps = [(node, step(node.operation)) for node in graph.nodes]

    def network(x: tf.Tensor) -> tf.Tensor:
        values = {graph.inputs[0]: x}
        for node, call in steps:
            values[node.outputs[0]] = call(*(values[edge] for edge in node.inputs))
        return values[graph.outputs[0]]

    signature = [tf.TensorSpec((1, *graph.inputs[0].shape[1:]), name="image")]
    function = tf.function(network, autograph=False, input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def contents(tflite: bytes) -> tuple[list[str], dict[bytes, tuple[np.ndarray, np.ndarray]]]:
    """The kinds of operators, sorted, and the scales of kernel and bias by the kernel's codes."""
    model: Any = schema.ModelT.InitFromPackedBuf(tflite)
    graph = model.subgraphs[0]
    kinds, scales = [], {}
    for op in graph.operators:
        kinds.append(KINDS[model.operatorCodes[op.opcodeIndex].builtinCode])
        if kinds[-1] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            _, kernel, bias = (graph.tensors[i] for i in op.inputs)
            codes = model.buffers[kernel.buffer].data.tobytes()
            scales[codes] = (kernel.quantization.scale, bias.quantization.scale)
    return sorted(kinds), scales


def input_name(tflite: bytes) -> str:
    """The name of a model's first input."""
    model: Any = schema.ModelT.InitFromPackedBuf(tflite)
    graph = model.subgraphs[0]
    return graph.tensors[graph.inputs[0]].name.decode()


def differences(ours: bytes, theirs: bytes, x: np.ndarray) -> np.ndarray:
    """By how many steps the outputs of the two files differ."""
    (expected,), (found,) = (run(data, {input_name(data): x}).values() for data in (ours, theirs))
    assert len(np.unique(expected)) > 50
    return np.abs(found.astype(int) - expected)


# The rounding of 20 biases in a row adds up: measured 1 and 3 steps.
NETS = {"mobile": (nets.mobile, 1), "resnet18": (partial(resnet18, (40, 40, 3), 10, 8), 3)}


def roughened(model: keras.Model) -> keras.Model:
    """The model with biases and BatchNorms as training leaves them, but no gamma near zero.

    There a bias leaves int32, and the two sides mend it in ways of their own.
    """
    norms = [
        x
        for x in nets.roughen(model, extremes=False).layers
        if isinstance(x, layers.BatchNormalization)
    ]
    for norm in norms:
        gamma = ops.convert_to_numpy(norm.gamma)
        norm.gamma.assign(np.copysign(np.maximum(np.abs(gamma), 0.05), gamma))
    assert any(np.any(ops.less(norm.gamma, 0)) for norm in norms)
    return model


@pytest.mark.parametrize("name", NETS)
def test_the_converter_agrees(name, monkeypatch):
    make, steps = NETS[name]
    keras.utils.set_random_seed(0)
    model = roughened(make())
    # The converter takes no per-channel Dense.
    rules = [
        tq.Rule("head", weights=tq.Uniform(8)),
        tq.Rule("", weights=tq.Uniform(8, per_channel=True)),
    ]
    model = nets.calibrated(model, rules)
    graph = lower(model)
    ours, theirs = write_tflite(graph), converted(flatten(model))

    (kinds, scales), (their_kinds, their_scales) = contents(ours), contents(theirs)
    assert kinds == their_kinds
    assert len(scales) == sum(name.endswith("/kernel") for name in graph.tensors)
    assert scales.keys() == their_scales.keys()
    for codes, pair in scales.items():
        for mine, other in zip(pair, their_scales[codes], strict=True):
            np.testing.assert_allclose(np.broadcast_to(mine, other.shape), other, rtol=3e-7)

    x = graph_inputs(graph, nets.samples(model, 64, 3))["image"]
    assert differences(ours, theirs, x).max() <= steps
    # With all bits of the biases kept, nothing is left of it.
    monkeypatch.setattr(fold, "BIAS_STEP", 1e-9)
    assert differences(write_tflite(lower(model)), theirs, x).max() == 0
