"""Training that ends once the coefficient has done its work."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression
from tfqreg.callbacks.stop import relative_error


def fitted(bound: float, epochs: int = 60, settle_from: float = 0.2) -> tuple[keras.Model, int]:
    q = tq.quantize(
        dense_net(), [tq.Rule(".*", tq.Uniform(4), tq.MSQE(alpha=0.1))], activations=None
    )
    q.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 400)), "mse")
    callbacks = [tq.Stages(0.0, 0.0, settle_from), tq.StopWhenSettled(bound)]
    history = q.fit(*regression(128), epochs=epochs, batch_size=16, verbose=0, callbacks=callbacks)
    return q, len(history.epoch)


def test_ends_once_the_coefficient_is_at_its_cap_and_the_weights_are_on_the_grid():
    q, epochs = fitted(1e-4)
    assert epochs < 60
    assert all(
        kernel.regularizer.at_cap and relative_error(kernel, w) <= 1e-4 for kernel, w in kernels(q)
    )


def test_goes_on_while_one_condition_is_missing():
    assert fitted(1e-30, epochs=15)[1] == 15  # never so near
    assert (
        fitted(10.0, epochs=3, settle_from=1.0)[1] == 3
    )  # near at once, but the coefficient is not at its cap


def test_relative_error_by_hand():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(3))])
    kernel, w = kernels(q)[0]
    codes, params = kernel.encode(w)
    expected = np.sum((np.asarray(w) - codes * params["scale"]) ** 2) / np.sum(np.square(w))
    assert relative_error(kernel, w) == pytest.approx(expected, rel=1e-4)
    w.assign(np.zeros(w.shape))
    assert relative_error(kernel, w) == 0.0


def test_bad_input():
    for bound in (0.0, -1.0, float("nan")):
        with pytest.raises(
            ValueError, match=r"StopWhenSettled: `bound` must be positive. Received: bound="
        ):
            tq.StopWhenSettled(bound)
    q = tq.quantize(
        dense_net(), [tq.Rule(".*", tq.Uniform(3), tq.MSQE(coefficient=1.0))], activations=None
    )
    q.compile("sgd", "mse")
    with pytest.raises(
        ValueError,
        match=r"StopWhenSettled: dense_net has no learned coefficient to wait for. .*MSQE",
    ):
        q.fit(*regression(), verbose=0, callbacks=[tq.StopWhenSettled()])
