"""The weight wrapper over every layer it is for."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.layers.user_layers import Bilinear, Counting, TwoLayers
from tests.tiny_nets import kernels, larger_half, regression, run_python
from tfqreg.layers.kernel import Stage
from tfqreg.layers.quantized import check_kernel

# Layer, shape of its input, axes of the output channels of each kernel.
CASES = {
    "dense": (lambda: layers.Dense(3), (5,), {"kernel": (1,)}),
    "conv1d": (lambda: layers.Conv1D(3, 2), (5, 4), {"kernel": (2,)}),
    "conv2d": (
        lambda: layers.Conv2D(3, 2, strides=2, activation="relu"),
        (5, 5, 2),
        {"kernel": (3,)},
    ),
    "conv2d_groups": (lambda: layers.Conv2D(4, 2, groups=2), (5, 5, 4), {"kernel": (3,)}),
    "conv3d": (lambda: layers.Conv3D(3, 2), (3, 3, 3, 2), {"kernel": (4,)}),
    "depthwise1d": (
        lambda: layers.DepthwiseConv1D(2, depth_multiplier=2),
        (5, 3),
        {"kernel": (1, 2)},
    ),
    "depthwise2d": (
        lambda: layers.DepthwiseConv2D(2, depth_multiplier=2),
        (5, 5, 3),
        {"kernel": (2, 3)},
    ),
    "separable1d": (
        lambda: layers.SeparableConv1D(4, 2),
        (5, 3),
        {"depthwise_kernel": (1, 2), "pointwise_kernel": (2,)},
    ),
    "separable2d": (
        lambda: layers.SeparableConv2D(4, 2),
        (5, 5, 3),
        {"depthwise_kernel": (2, 3), "pointwise_kernel": (3,)},
    ),
    "transpose1d": (lambda: layers.Conv1DTranspose(3, 2), (4, 2), {"kernel": (1,)}),
    "transpose2d": (lambda: layers.Conv2DTranspose(3, 2), (4, 4, 2), {"kernel": (2,)}),
    "transpose3d": (lambda: layers.Conv3DTranspose(3, 2), (2, 2, 2, 2), {"kernel": (3,)}),
    "einsum": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (4, 5),
        {"kernel": (1, 2)},
    ),
    "einsum_ellipsis": (
        lambda: layers.EinsumDense("...x,yx->...y", (6,)),
        (4, 5),
        {"kernel": (0,)},
    ),
    "user": (Bilinear, (4,), {"kernel": (1,)}),
}


def build(
    name: str, bits: int = 3, per_channel: bool = True, **arguments
) -> tuple[keras.Model, np.ndarray]:
    make, shape, _ = CASES[name]
    keras.utils.set_random_seed(len(name))
    inputs = keras.Input(shape)
    layer = tq.Quantized(make(), tq.Uniform(bits, per_channel), **arguments)
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    return keras.Model(inputs, layer(inputs), name=name), x


@pytest.mark.parametrize("name", CASES)
def test_computes_with_the_decoded_weights(name):
    model, x = build(name)
    wrapper, axes = model.layers[1], CASES[name][2]
    plain = CASES[name][0]()
    plain.build((None, *x.shape[1:]))
    plain.set_weights(wrapper.layer.get_weights())
    encoded = wrapper.encode()
    assert set(encoded) == set(axes)
    for kernel, (codes, params) in encoded.items():
        shape = getattr(plain, kernel).shape
        assert params["scale"].shape == tuple(
            n if i in axes[kernel] else 1 for i, n in enumerate(shape)
        )
        assert codes.shape == shape and np.abs(codes).max() <= 3
        getattr(plain, kernel).assign(wrapper.quantizer.decode(codes, params))
    np.testing.assert_array_equal(model(x), plain(x))
    assert model.output_shape == plain(model.input).shape


@pytest.mark.parametrize("name", CASES)
def test_every_channel_has_the_scale_of_its_weights(name):
    """Weights that differ by output channel come back within half a step of their channel."""
    model, _ = build(name, bits=8)
    wrapper = model.layers[1]
    for kernel, axes in CASES[name][2].items():
        variable = getattr(wrapper.layer, kernel)
        sizes = 10.0 ** np.arange(np.prod([variable.shape[i] for i in axes]))
        sizes = (sizes / sizes.mean()).reshape(
            [n if i in axes else 1 for i, n in enumerate(variable.shape)]
        )
        variable.assign(variable * sizes)
    wrapper.fit_quantizers()
    for kernel, (codes, params) in wrapper.encode().items():
        w = np.asarray(getattr(wrapper.layer, kernel))
        largest = np.abs(w).max(
            tuple(i for i in range(w.ndim) if i not in CASES[name][2][kernel]), keepdims=True
        )
        assert np.all(np.abs(wrapper.quantizer.decode(codes, params) - w) <= largest / 100)


@pytest.mark.parametrize("name", CASES)
def test_one_step_of_training_changes_every_weight_and_scale(name):
    model, x = build(name, regularizer=tq.MSQE())
    for kernel, _ in kernels(model):  # away from the best scale, where its gradient is 0
        kernel.state["log2_scale"].assign(kernel.state["log2_scale"] + 0.3)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.train_on_batch(x, np.zeros(model(x).shape, np.float32))
    assert len(before) == len(model.trainable_variables) >= 3
    assert [v.path for v in model.trainable_variables if np.array_equal(v, before[v.path])] == []


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Outputs of every model here, and those of its `.keras` file in a new process."""
    folder = tmp_path_factory.mktemp("saved")
    here = {}
    for name in (*CASES, "subclassed", "nested"):
        if name in CASES:
            model, x = build(name, regularizer=tq.MSQE(), prune=tq.PartialL2(0.5))
        else:
            model, x = {"subclassed": subclassed, "nested": nested}[name]()
        for kernel, variable in kernels(model):
            if kernel.prune is not None:
                kernel.freeze(variable, larger_half(variable))
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", x)
        here[name] = np.asarray(model(x))
    run_python(
        "import sys, pathlib, numpy as np, keras, tfqreg\n"
        "import tests.layers.user_layers\n"
        "for file in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    x = np.load(file.with_suffix('.npy'))\n"
        "    np.save(file.with_suffix('.out.npy'), keras.models.load_model(file)(x))\n",
        folder,
    )
    return {name: (y, np.load(folder / f"{name}.out.npy")) for name, y in here.items()}


@pytest.mark.parametrize("name", [*CASES, "subclassed", "nested"])
def test_saved_and_loaded_in_a_new_process(reloaded, name):
    np.testing.assert_array_equal(*reloaded[name])


# Models.


def sequential():
    model = keras.Sequential(
        [
            tq.Quantized(layers.Dense(8, activation="relu"), tq.Uniform(3), tq.MSQE()),
            tq.Quantized(layers.Dense(1)),
        ]
    )
    return model, regression()[0]


def subclassed():
    keras.utils.set_random_seed(0)
    model, x = TwoLayers(), regression()[0]
    model(x, training=True)
    return model, x


def nested():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((6,)), tq.Quantized(layers.Dense(5), tq.Uniform(2), name="deep")], name="inner"
    )
    inputs = keras.Input((6,))
    return keras.Model(
        inputs, tq.Quantized(layers.Dense(1), tq.Uniform(4))(inner(inputs))
    ), regression()[0]


@pytest.mark.parametrize("make", [sequential, subclassed, nested])
def test_fit(make):
    model, x = make()
    y = regression()[1]
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for kernel, variable in kernels(model):
        levels = kernel.quantizer.decode(*kernel.encode(variable))
        np.testing.assert_array_equal(kernel.weights_in_use(variable), levels)
    assert all(
        wrapper.layer.name == wrapper.name
        for wrapper in model.layers
        if isinstance(wrapper, tq.Quantized)
    )


def test_in_a_model_of_unknown_shape_the_quantizer_fits_the_weights_it_gets():
    """Built inside the first `fit`, where variables get their values late."""
    model, x = sequential()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, regression()[1], verbose=0)
    for kernel, variable in kernels(model):
        expected = kernel.quantizer.fit_state(variable, kernel.axes)["log2_scale"]
        np.testing.assert_allclose(kernel.state["log2_scale"], expected, atol=1e-6)


# What the inner layer brings.


def test_a_kernel_regularizer_of_the_layer_still_counts():
    inner = layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
    wrapper = tq.Quantized(inner, tq.Uniform(8), tq.MSQE(coefficient=2.0))
    wrapper.build((None, 3))
    kernel, variable = wrapper.kernel_pairs()[0]
    expected = 0.5 * np.sum(np.square(variable)) + 2.0 * float(kernel.grid_squares(variable)) / 6
    assert float(sum(wrapper.losses)) == pytest.approx(expected, rel=1e-5)


def test_bias_and_activity_regularizers_of_the_layer_still_count():
    inner = layers.Dense(
        2,
        bias_regularizer="l1",
        bias_initializer="ones",
        activity_regularizer=lambda y: 7.0 + 0 * y[0, 0],
    )
    wrapper = tq.Quantized(inner, tq.Uniform(8, scale_from="task"))
    wrapper(np.ones((1, 3), np.float32))
    assert float(sum(wrapper.losses)) == pytest.approx(0.01 * 2 + 7.0)


def test_state_and_losses_of_the_layer():
    x, y = regression()
    model = keras.Sequential([keras.Input((6,)), tq.Quantized(Counting(), tq.Uniform(4))])
    model.compile("sgd", "mse")
    model.fit(x, np.repeat(y, 2, 1), batch_size=16, epochs=2, verbose=0)
    assert float(model.layers[0].layer.calls) == 8
    model(x)
    penalty = float(model.layers[0].kernels["kernel"].penalty(model.layers[0].layer.kernel))
    assert float(sum(model.losses)) == pytest.approx(float(np.mean(x)) + penalty, abs=1e-6)


def test_a_layer_called_twice_counts_its_penalty_once():
    inputs = keras.Input((3,))
    layer = tq.Quantized(layers.Dense(3), tq.Uniform(3), tq.MSQE(coefficient=2.0))
    model = keras.Model(inputs, layer(layer(inputs)))
    model(np.ones((2, 3), np.float32))
    kernel, variable = layer.kernel_pairs()[0]
    assert len(model.losses) == 1
    assert float(model.losses[0]) == pytest.approx(
        2.0 * float(kernel.grid_squares(variable)) / 9, rel=1e-5
    )


def test_call_arguments_reach_the_layer():
    x = np.ones((1, 6), np.float32)
    wrapper = tq.Quantized(Counting())
    wrapper(x, training=True)
    wrapper(x, training=False)
    assert float(wrapper.layer.calls) == 1


@pytest.mark.parametrize("layer", [layers.ReLU(), layers.BatchNormalization(), layers.Dropout(0.5)])
def test_a_layer_without_kernel(layer):
    with pytest.raises(
        ValueError, match=rf"{layer.name}: {type(layer).__name__} has no kernel .* Received: layer="
    ):
        tq.Quantized(layer)(np.ones((1, 3), np.float32))


def test_config_round_trip():
    wrapper = tq.Quantized(
        layers.Conv2D(3, 2),
        tq.Uniform(2, per_channel=True),
        tq.MSQE(0.3, scope="layer"),
        tq.PartialL2(0.7),
        name="mine",
    )
    restored = tq.Quantized.from_config(wrapper.get_config())
    assert restored.name == "mine" and restored.quantizer == wrapper.quantizer
    assert restored.layer.get_config() == wrapper.layer.get_config()
    assert restored.regularizer.get_config() == wrapper.regularizer.get_config()
    assert restored.prune.get_config() == wrapper.prune.get_config()
    assert tq.Quantized.from_config(tq.Quantized(layers.Dense(1)).get_config()).regularizer is None


def test_a_frozen_layer_stays_frozen():
    x, y = regression()
    inner, shared = layers.Dense(8, trainable=False), tq.MSQE()
    stack = [tq.Quantized(layer, tq.Uniform(4), shared) for layer in (inner, layers.Dense(1))]
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.compile("sgd", "mse")
    frozen = [inner.kernel, inner.bias, stack[0].kernels["kernel"].state["log2_scale"]]
    before = [np.array(v) for v in frozen]
    assert len(model.trainable_variables) == 4
    model.fit(x, y, verbose=0)
    for old, v in zip(before, frozen, strict=True):
        np.testing.assert_array_equal(v, old)
    stack[0].trainable = True
    assert len(model.trainable_variables) == 7


# Masks.


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pruned_weights_stay_exactly_0(bits):
    x, y = regression()
    model = keras.Sequential(
        [
            keras.Input((6,)),
            tq.Quantized(layers.Dense(8), tq.Uniform(bits), prune=tq.PartialL2(0.5)),
            layers.Dense(1),
        ]
    )
    kernel, variable = kernels(model)[0]
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, y, verbose=0)  # momentum that would move pruned weights
    kernel.freeze(variable, larger_half(variable))
    mask = np.array(kernel.mask)
    assert mask.mean() == 0.5
    model.fit(x, y, epochs=5, verbose=0)
    np.testing.assert_array_equal(kernel.mask, mask)
    assert not np.any(np.asarray(kernel.weights_in_use(variable))[~mask])
    codes, params = kernel.encode(variable)
    assert not np.any(codes[~mask])
    np.testing.assert_array_equal(
        kernel.quantizer.decode(codes, params), kernel.quantized(variable)
    )
    if bits == 1:
        assert set(np.unique(codes)) == {-1, 0, 1} and np.all(codes[mask] != 0)


def test_grid_error_leaves_pruned_weights_out():
    for bits in (1, 4):
        wrapper = tq.Quantized(layers.Dense(4), tq.Uniform(bits), prune=tq.PartialL2(0.5))
        wrapper.build((None, 6))
        kernel, variable = wrapper.kernel_pairs()[0]
        kernel.freeze(variable, larger_half(variable))
        mask, w = np.asarray(kernel.mask), np.asarray(variable)
        levels = np.asarray(kernel.quantized(variable))
        assert float(kernel.grid_squares(variable)) == pytest.approx(
            np.sum((w - levels)[mask] ** 2), rel=1e-5
        )


def test_weights_in_use_by_stage():
    wrapper = tq.Quantized(layers.Dense(4), tq.Uniform(2), prune=tq.PartialL2(0.5))
    wrapper.build((None, 6))
    kernel, variable = wrapper.kernel_pairs()[0]
    for stage, expected in (
        (Stage.PRUNE, variable),
        (Stage.QUANTIZE, kernel.quantized(variable)),
        (Stage.SETTLE, kernel.quantized(variable)),
    ):
        kernel.stage.assign(stage)
        np.testing.assert_array_equal(kernel.weights_in_use(variable), expected)


# Bad kernels.


def test_encode_names_a_kernel_that_cannot_ship():
    wrapper = tq.Quantized(layers.Dense(2, name="head"), tq.Uniform(2))
    wrapper.build((None, 3))
    wrapper.kernels["kernel"].state["log2_scale"].assign([[20.0]])
    with pytest.raises(
        ValueError, match=r"head/kernel: every weight rounds to 0.* Received: bits=2"
    ):
        wrapper.encode()
    wrapper.layer.kernel.assign(np.full((3, 2), np.nan))
    with pytest.raises(
        ValueError, match=r"head/kernel: the kernel holds NaN or infinity.* Received: 6 of 6"
    ):
        wrapper.encode()


def test_check_kernel():
    check_kernel(np.float32([0, 1]), "a")
    with pytest.raises(ValueError, match="a: the kernel holds NaN or infinity"):
        check_kernel(np.float32([0, np.inf]), "a")
    check_kernel(np.zeros((2, 3)), "a")


@pytest.mark.parametrize("quantizer", [tq.Uniform(1), tq.DoReFa()], ids=str)
def test_a_kernel_of_zeros_that_turns_into_something(quantizer):
    wrapper = tq.Quantized(layers.Dense(2, kernel_initializer="zeros", name="head"), quantizer)
    wrapper.build((None, 3))
    with pytest.raises(ValueError, match=r"head/kernel: the kernel is all zeros, and .* no level"):
        wrapper.encode()


def test_a_kernel_of_zeros_stays():
    wrapper = tq.Quantized(layers.Dense(2, kernel_initializer="zeros", name="head"))
    wrapper.build((None, 3))
    assert not wrapper.encode()["kernel"][0].any()
    assert not np.any(wrapper(np.ones((1, 3), np.float32)))


def test_a_diverged_scale_is_no_kernel_of_zeros():
    wrapper = tq.Quantized(layers.Dense(2, name="head"))
    wrapper.build((None, 3))
    wrapper.kernels["kernel"].state["log2_scale"].assign([[np.nan]])
    with pytest.raises(ValueError, match=r"head/kernel/log2_scale: the training diverged"):
        wrapper.encode()
