"""Whole networks, trained and pruned: no element differs on any runtime, and Keras computes the
same within steps.
"""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.export import keras_nets as nets
from tfqreg.export import export_tflite, verify
from tfqreg.export.ir import Graph
from tfqreg.export.verification.compare import DEFAULT_RUNTIMES
from tfqreg.export.verification.runtimes import MICRO, missing
from tfqreg.layers.queries import quantized_layers

INSTALLED = [name for name in DEFAULT_RUNTIMES if missing(name) is None]


def trained(model: keras.Model, rules: list[tq.Rule], activations: int) -> keras.Model:
    """The model after a few steps towards random targets, through every stage."""
    keras.utils.set_random_seed(0)
    model = tq.quantize(nets.roughen(model), rules, activations)
    x = nets.samples(model, 64)
    y = [np.random.default_rng(0).random((64, *tensor.shape[1:])) for tensor in model.outputs]
    model.compile(keras.optimizers.Adam(1e-3), "mse" if len(y) == 1 else ["mse"] * len(y))
    model.fit(
        *(a[0] if len(a) == 1 else a for a in (x, y)),
        16,
        epochs=3,
        verbose=0,
        callbacks=tq.callbacks_for(model),
    )
    return model


def assert_exact(model: keras.Model, path, x: list[np.ndarray], float_io: bool = False) -> Graph:
    graph = export_tflite(model, path, float_io=float_io)
    report = verify(model, path, x)
    assert list(report.runtimes) == INSTALLED
    assert report.exact, str(report)
    elements = sum(int(np.prod(graph.tensors[op.outputs[0]].shape)) for op in graph.ops)
    assert {part.compared_elements for part in report.runtimes.values()} == {elements * len(x[0])}
    return graph


PRUNED = tq.PartialL2(0.7)
NETS = {
    "lenet": (
        nets.lenet,
        [
            tq.Rule("conv1"),
            tq.Rule(
                "conv2|fc1", weights=tq.Uniform(4), regularizer=tq.MSQE(alpha=0.01), prune=PRUNED
            ),
            tq.Rule("fc2", weights=tq.Uniform(8)),
        ],
        8,
    ),
    "mobile": (
        nets.mobile,
        [
            tq.Rule("stem$", weights=tq.Uniform(8, per_channel=True)),
            tq.Rule("block_1_point", weights=tq.Uniform(2, per_channel=True)),
            tq.Rule("block_2_point", weights=tq.Uniform(3), prune=PRUNED),
            tq.Rule("depthwise", weights=tq.Uniform(4, per_channel=True)),
            tq.Rule("", weights=tq.Uniform(4)),
        ],
        4,
    ),
    "dense blocks": (
        nets.dense_blocks,
        [tq.Rule("", weights=tq.Uniform(4, per_channel=True), prune=PRUNED)],
        8,
    ),
    "two ends": (
        nets.two_ends,
        [tq.Rule("", weights=tq.Uniform(3), regularizer=tq.MSQE(alpha=0.1))],
        8,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", NETS)
def test_trained_networks_are_exact(name, tmp_path):
    make, rules, activations = NETS[name]
    model = trained(make(), rules, activations)
    kernels = [
        kernel
        for layer in quantized_layers(model)
        for kernel in layer.kernels.values()
        if kernel.prune
    ]
    assert bool(kernels) == any(rule.prune for rule in rules)
    assert all(0.1 < np.mean(np.asarray(kernel.mask)) < 0.9 for kernel in kernels)
    x = nets.samples(model, 40, 1)
    graph = assert_exact(model, tmp_path / "m.tflite", x)
    if missing(MICRO) is None:
        report = verify(model, tmp_path / "m.tflite", [array[:5] for array in x], [MICRO])
        assert list(report.runtimes) == [MICRO]
        assert report.exact, str(report)

    # Keras rounds the same tensors to the same grids. What differs is the bias, rounded to int32,
    # and float32's last bits: a value next to the middle of two codes falls to the other side now
    # and then, and what follows it moves by that step times its weights. Measured: 1 step at
    # most; 0.3 on average after a softmax, which Keras leaves unrounded.
    for error, spread in nets.output_errors(model, graph, x):
        assert spread >= min(8, 2**activations // 4)  # not all the same
        assert error.max() <= 3
        assert error.mean() <= 0.4


@pytest.mark.filterwarnings("ignore:.*kernel is all zeros:UserWarning")
@pytest.mark.parametrize("seed", range(15))
def test_random_networks_are_exact(seed, tmp_path):
    model = nets.random_net(seed)
    assert_exact(
        model, tmp_path / "m.tflite", nets.samples(model, 6, seed + 1), float_io=seed % 3 == 0
    )
