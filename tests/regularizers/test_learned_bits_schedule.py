"""SinAReQ over a training: when the bits freeze, what they cost, and what does not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression

W = np.random.default_rng(0).normal(scale=0.2, size=(50, 4)).astype(np.float32)


def wrapped(w, quantizer, regularizer=None) -> tq.Quantized:
    layer = tq.Quantized(
        layers.Dense(w.shape[1], use_bias=False, name="fc"), quantizer, regularizer
    )
    layer.build((None, w.shape[0]))
    layer.layer.kernel.assign(w)
    layer.fit_quantizers()
    return layer


def two_kernels(count: str) -> tuple[tq.SinAReQ, list[tq.Quantized]]:
    penalty = tq.SinAReQ(bits_strength=0.25, count=count)
    return penalty, [wrapped(w, tq.LearnedBits(), penalty) for w in (W[:10], W)]


@pytest.mark.parametrize("count,expected", [("kernels", (1.0, 1.0)), ("weights", (2 / 6, 10 / 6))])
def test_a_bit_costs_the_same_in_every_kernel_or_for_every_weight(count, expected):
    penalty, wrappers = two_kernels(count)
    penalty.beta_strength.assign(0.25)  # and no strength of the sine
    for layer, share in zip(wrappers, expected, strict=True):
        unit = layer.kernels["kernel"].state["beta_unit"]
        with tf.GradientTape() as tape:
            (cost,) = layer.losses
        in_beta = tape.gradient(cost, unit.value).numpy().item() / tq.LearnedBits().pace
        assert in_beta == pytest.approx(0.25 * share)
        assert float(cost) == pytest.approx(0.25 * share * 7.0)


def test_bits_freeze_where_lambda_beta_falls():
    penalty, wrappers = two_kernels("kernels")
    state = wrappers[0].kernels["kernel"].state
    state["beta_unit"].assign([[0.31]])
    penalty.at_step(69, 100)
    assert state["frozen"].numpy().item() == 0.0 and float(penalty.beta_strength) > 0.1
    penalty.at_step(70, 100)
    state["beta_unit"].assign([[0.5]])
    penalty.at_step(99, 100)
    assert state["frozen"].numpy().item() == pytest.approx(3.1)
    assert wrappers[0].kernels["kernel"].quantizer.beta(state).numpy().item() == pytest.approx(3.1)


@pytest.mark.parametrize("error,sign", [(0.9, 1), (-0.9, -1)])
def test_target_bits_steer_lambda_beta(error, sign):
    penalty = tq.SinAReQ(target_bits=4)
    layer = wrapped(W, tq.LearnedBits(), penalty)
    layer.kernels["kernel"].state["beta_unit"].assign([[(4 + error) / 10]])
    penalty.at_step(50, 100)
    assert penalty.average_bits() == pytest.approx(4 + error, abs=1e-3)
    assert np.sign(float(penalty.beta_strength)) == sign


@pytest.mark.parametrize(
    "quantizer", [tq.WRPN(4, normalize=False), tq.LearnedBits(normalize=False)], ids=repr
)
def test_weights_outside_a_fixed_range_are_reported(quantizer):
    name = type(quantizer).__name__
    with pytest.warns(
        UserWarning,
        match=rf"fc/kernel: weights outside \[-1, 1\].*Use {name}\(normalize=True\).* 1.5",
    ):
        wrapped(np.float32([[1.5, 0.1]]), quantizer)
    wrapped(np.float32([[1.0, 0.1]]), quantizer)  # warns of nothing


def test_bits_at_a_bound_are_reported_once():
    penalty, wrappers = two_kernels("kernels")
    wrappers[0].kernels["kernel"].state["beta_unit"].assign([[0.31]])
    with pytest.warns(
        UserWarning, match="learned bits stand at a bound.*target_bits.*Received: fc/kernel at 7"
    ) as seen:
        penalty.settle()
        penalty.settle()
    assert len(seen) == 1


def fitted(
    penalty, epochs: int = 4, prune=None, stages: tq.Stages | None = None, weights=None
) -> keras.Model:
    q = tq.quantize(dense_net(), [tq.Rule(".*", weights or tq.LearnedBits(), penalty, prune)])
    q.compile(keras.optimizers.SGD(0.01), "mse")
    x, y = regression(64)
    q.fit(x, y, epochs=epochs, batch_size=8, verbose=0, callbacks=[stages or tq.Stages()])
    return q


def test_phases_that_do_not_fit():
    with pytest.raises(
        ValueError,
        match=r"would learn for 4 steps, from 2 to 6.*Received: rise=0.2, fall=0.7, 8 steps",
    ):
        fitted(tq.SinAReQ(), epochs=1)
    with pytest.raises(
        ValueError,
        match=r"bits freeze at step 19, before lambda_beta falls at step 22.*settle_from",
    ):
        fitted(tq.SinAReQ(), stages=tq.Stages(settle_from=0.6))
    with pytest.raises(
        ValueError, match=r"would learn for 0 steps, from 14 to 11.*quantized from step 14"
    ):
        fitted(tq.SinAReQ(fall=0.35), prune=tq.PartialL2(0.5))
    with pytest.raises(
        ValueError, match=r"lambda_w rises with the last step.*Received: rise=1.0, 32 steps"
    ):
        fitted(tq.SinReQ(rise=1.0), weights=tq.WRPN(3))


def test_the_sine_takes_weights_to_its_minima():
    q = fitted(tq.SinReQ(strength=30.0, rise=0.1), epochs=30, weights=tq.WRPN(3))
    figures = tq.kernel_figures(q)["body/kernel"]
    start = tq.kernel_figures(fitted(tq.SinReQ(rise=0.9), epochs=1, weights=tq.WRPN(3)))[
        "body/kernel"
    ]
    assert figures["grid_error"] < 0.5 * start["grid_error"]
    assert all(k.stage.numpy() == 2 for k, _ in kernels(q))
