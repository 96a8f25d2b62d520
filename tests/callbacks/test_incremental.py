"""Incremental: the shares on the grid, the times of the fits."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression
from tfqreg import Incremental

DENSE = "ignore:.*(none of its weights is pruned|surviving weights):UserWarning"


class Watch(keras.callbacks.Callback):
    """Notes, for each batch, the share of surviving weights on the grid and whether it was fitted
    anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []
        self.units: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        kernel, variable = kernels(self.model)[0]
        w = np.asarray(kernel.surviving(variable))
        self.shares.append(float(np.mean(np.abs(w[w != 0]) >= np.asarray(kernel.float_below))))
        self.units.append(float(np.asarray(kernel.state["unit"]).item()))


def trained(epochs=10, **arguments):
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.PowerOfTwo(4))])
    q.compile(keras.optimizers.SGD(1e-3), "mse")
    x, y = regression(80)
    watch = Watch()
    q.fit(x, y, epochs=epochs, batch_size=8, verbose=0, callbacks=[Incremental(**arguments), watch])
    return q, watch


def test_shares_grow_to_all():
    q, watch = trained(shares=(0.25, 0.5, 1.0), until=0.6)
    assert watch.shares[5] == pytest.approx(0.25, abs=0.05)
    assert watch.shares[25] == pytest.approx(0.5, abs=0.05)
    assert set(watch.shares[40:]) == {1.0}
    kernel, variable = kernels(q)[0]
    np.testing.assert_array_equal(kernel.weights_in_use(variable), kernel.quantized(variable))


@pytest.mark.filterwarnings("ignore:.*surviving weights:UserWarning")  # one of the kernels is small
def test_the_published_shares_follow_the_pruning():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Focused(), prune=tq.Surgery(0.5))])
    q.compile(keras.optimizers.SGD(1e-3), "mse")
    x, y = regression(80)
    watch = Watch()
    q.fit(x, y, epochs=10, batch_size=8, verbose=0, callbacks=[*tq.callbacks_for(q), watch])
    # 100 steps; pruned until 45, all on the grid from 75 on: a share lasts 6 of them.
    for at, share in zip((46, 52, 58, 64, 70, 90), (0.25, 0.5, 0.75, 0.875, 1.0, 1.0), strict=True):
        assert watch.shares[at] == pytest.approx(share, abs=0.03), at


def test_float_weights_are_used_as_they_are():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.PowerOfTwo(4))])
    kernel, variable = kernels(q)[0]
    w = np.asarray(variable)
    kernel.float_below.assign(np.median(np.abs(w)))
    used = np.asarray(kernel.weights_in_use(variable))
    small = np.abs(w) < np.median(np.abs(w))
    np.testing.assert_array_equal(used[small], w[small])
    np.testing.assert_array_equal(used[~small], np.asarray(kernel.quantized(variable))[~small])


@pytest.mark.filterwarnings(DENSE)
def test_fits_come_at_growing_intervals():
    callback = Incremental(shares=(0.5, 1.0), until=1.0)
    callback.set_model(tq.quantize(dense_net(), [tq.Rule(".*", tq.Focused())]))
    callback.set_params({"steps": 10, "epochs": 20})
    callback.on_train_begin()
    assert callback.fits == dict.fromkeys((0, 10, 30, 70), 0.5) | dict.fromkeys(
        (100, 110, 130, 170), 1.0
    )


@pytest.mark.filterwarnings(DENSE)
def test_it_belongs_to_the_quantizers_that_want_it():
    assert [
        type(c) for c in tq.callbacks_for(tq.quantize(dense_net(), [tq.Rule(".*", tq.Focused())]))
    ] == [
        tq.Stages,
        Incremental,
    ]
    assert [type(c) for c in tq.callbacks_for(tq.quantize(dense_net()))] == [tq.Stages]


@pytest.mark.parametrize(
    "arguments", [{"shares": (0.5, 0.25, 1.0)}, {"shares": (0.5,)}, {"start": 0.9}, {"until": 1.5}]
)
def test_arguments_out_of_order(arguments):
    with pytest.raises(ValueError, match=r"Incremental: .*Received: "):
        Incremental(**arguments)
