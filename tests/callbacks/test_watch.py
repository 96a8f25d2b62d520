"""What training says aloud: kernels of zeros, coefficients that diverge."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression


def net(bits: int = 4, **rule) -> keras.Model:
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(bits), **rule)], activations=None)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    return q


def fit(q: keras.Model, epochs: int = 1, **options) -> None:
    q.fit(*regression(), epochs=epochs, verbose=0, callbacks=tq.callbacks_for(q), **options)


def test_a_kernel_of_zeros_is_named_with_a_scale_that_suits_it():
    q = net(4)
    kernel, w = kernels(q)[0]
    kernel.state["log2_scale"].assign([[3.0]])
    with pytest.warns(
        UserWarning, match=r"body/kernel: 100% of the weights are 0.*Received: bits=4, scale=8"
    ) as told:
        fit(q)
    assert len(told) == 1  # once, and of no other kernel
    scale = float(str(told[0].message).split("scale of ")[1].split(". Received")[0])
    assert scale == pytest.approx(
        2 * np.abs(dense_net().get_layer("body").kernel).mean() / np.sqrt(7), rel=1e-2
    )
    kernel.state["log2_scale"].assign(np.log2([[scale]]))
    assert np.mean(kernel.encode(w)[0] == 0) < 0.5


def test_pruned_weights_do_not_count():
    q = net(4, prune=tq.PartialL2(0.94))
    fit(q, epochs=4)  # no warning, which would be an error
    assert (
        np.mean(np.concatenate([kernel.encode(w)[0].ravel() == 0 for kernel, w in kernels(q)]))
        > 0.9
    )


def test_a_coefficient_that_diverges_is_named_once():
    q = net(3, regularizer=tq.MSQE())
    _, w = kernels(q)[1]
    w.assign(np.full(w.shape, np.nan))
    with pytest.warns(
        UserWarning, match=r"MSQE of .*body/kernel, .*head/kernel: .* diverged by step .*=nan"
    ) as told:
        fit(q, epochs=3)
    assert len(told) == 1
