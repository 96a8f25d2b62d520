"""The bits of codes as a penalty: entropy on the grid, gradients, what it does to weights."""

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, finite_difference, gradients, kernels, regression
from tfqreg.regularizers.rate import soft_bits


def entropy_bits(codes: np.ndarray) -> float:
    share = np.unique(codes, return_counts=True)[1] / codes.size
    return float(-(share * np.log2(share)).sum() * codes.size)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.99])
def test_on_the_grid_the_bits_are_the_entropy_of_the_codes(bits, sparsity):
    random = np.random.default_rng(bits)
    largest = 2 ** (bits - 1) - 1
    codes = np.rint(random.laplace(scale=largest / 4, size=60_000)).clip(-largest, largest)
    codes *= random.random(codes.size) >= sparsity
    bits = float(soft_bits(codes.astype(np.float32), -largest, largest))
    assert bits == pytest.approx(entropy_bits(codes), rel=0.03)


def test_the_gradient_is_that_of_the_soft_histogram():
    v = np.random.default_rng(0).uniform(-3.4, 3.4, 40)
    v = v[np.abs(v - np.rint(v)) > 0.01]  # the soft histogram has corners at the levels
    (found,) = gradients(lambda x: soft_bits(x, -3, 3), v)
    np.testing.assert_allclose(
        found, finite_difference(lambda x: np.asarray(soft_bits(x, -3, 3)), v), atol=1e-4
    )


def test_where_zeros_prevail_the_pull_goes_to_zero():
    v = np.concatenate([np.zeros(990), [0.6, -0.6, 1.4, -1.4]]).astype(np.float32)
    (slope,) = gradients(lambda x: soft_bits(x, -3, 3), v)
    assert slope[990] > 5 and slope[991] < -5  # more than five bits a step
    assert np.sign(slope[992]) == 1 and np.sign(slope[993]) == -1


def test_the_cost_is_that_of_msqe_and_the_price_of_bytes():
    costs = {}
    for price in (1e-3, 3e-3):
        keras.utils.set_random_seed(0)
        layer = tq.Quantized(layers.Dense(16), tq.Uniform(3), tq.Rate(price, coefficient=2.0))
        layer.build((None, 32))
        costs[price] = float(layer.losses[0])
    kernel, w = layer.kernel_pairs()[0]
    positions = w.numpy() / 2.0 ** float(kernel.state["log2_scale"].numpy().squeeze())
    assert costs[3e-3] - costs[1e-3] == pytest.approx(
        2e-3 * float(soft_bits(positions, -3, 3)) / 8, rel=1e-4
    )
    squares = 2.0 * float(kernel.grid_squares(w)) / 512
    assert costs[1e-3] == pytest.approx(
        squares + 1e-3 * float(soft_bits(positions, -3, 3)) / 8, rel=1e-4
    )


def test_pruned_weights_feel_nothing():
    model = tq.quantize(
        dense_net(),
        [tq.Rule(".*", tq.Uniform(3), tq.Rate(1e-2), tq.PartialL2(0.5))],
        activations=None,
    )
    kernel, w = kernels(model)[0]
    kernel.freeze(w, np.arange(96).reshape(6, 16) % 2 == 0)
    (slope,) = gradients(lambda x: kernel.regularizer.grid_cost(kernel, x), w.numpy())
    assert not slope[:, 1::2].any() and slope[:, ::2].all()


@pytest.mark.parametrize("seed", [0, 1])
def test_training_with_a_price_gives_fewer_bits(seed):
    found = {}
    for price in (1e-9, 0.1):
        model = tq.quantize(
            dense_net(seed), [tq.Rule(".*", tq.Uniform(4), tq.Rate(price))], activations=None
        )
        model.compile(keras.optimizers.Adam(0.02), "mse")
        model.fit(*regression(), epochs=40, verbose=0, callbacks=tq.callbacks_for(model))
        found[price] = sum(entropy_bits(kernel.encode(w)[0]) for kernel, w in kernels(model))
    assert found[0.1] < 0.7 * found[1e-9]


def test_it_comes_back_from_its_config_and_a_file(tmp_path):
    model = tq.quantize(
        dense_net(), [tq.Rule(".*", tq.Uniform(3), tq.Rate(2e-4, alpha=0.3))], activations=None
    )
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    (kernel, _), (other, _) = kernels(loaded)
    assert kernel.regularizer is other.regularizer
    assert (kernel.regularizer.price, kernel.regularizer.alpha) == (2e-4, 0.3)


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf"), float("nan")])
def test_a_price_that_is_none_is_named(price):
    with pytest.raises(ValueError, match=r"a positive number\. Received: price="):
        tq.Rate(price)


@pytest.mark.parametrize("quantizer", [tq.Uniform(1), tq.PowerOfTwo(4)])
def test_a_grid_whose_bits_are_not_counted_is_named(quantizer):
    with pytest.raises(ValueError, match="Use MSQE for this layer"):
        tq.Quantized(layers.Dense(2), quantizer, tq.Rate()).build((None, 3))
