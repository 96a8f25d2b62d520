"""Figures of every kernel and epoch."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, larger_half, regression


def test_figures_by_hand():
    q = tq.quantize(
        dense_net(), [tq.Rule(".*", tq.Uniform(4), tq.MSQE(coefficient=2.0), tq.PartialL2(0.5))]
    )
    (body, w), _ = kernels(q)
    body.freeze(w, larger_half(w))
    rows = tq.kernel_figures(q)
    assert list(rows) == ["body/kernel", "head/kernel"]
    codes, params = body.encode(w)
    scale, alive = float(params["scale"].item()), np.asarray(body.mask)
    error = (np.asarray(w) - codes * params["scale"])[alive]
    assert rows["body/kernel"] == {
        "grid_error": pytest.approx(np.sqrt(np.mean(error**2)) / scale, rel=1e-4),
        "sparsity": pytest.approx(np.mean(codes == 0)),
        "scale": pytest.approx(scale),
        "bits": 4.0,
        "stage": 1.0,
        "coefficient": pytest.approx(2.0, rel=1e-5),
        "prune_coefficient": 1.0,
    }
    assert rows["body/kernel"]["sparsity"] >= 0.5


def test_without_penalties():
    rows = tq.kernel_figures(tq.quantize(dense_net()))
    assert set(rows["head/kernel"]) == {"grid_error", "sparsity", "scale", "bits", "stage"}
    assert 0.1 < rows["body/kernel"]["grid_error"] < 0.4


def test_multi_bit_weights_tell_their_average_bits_before_and_after_the_projection():
    q = tq.quantize(dense_net(), [tq.Rule("body", tq.MultiBit(bases=3)), tq.Rule(".*")])
    for _ in range(2):
        rows = tq.kernel_figures(q)
        assert (
            rows["body/kernel"]["average_bits"] == 3.0 and "average_bits" not in rows["head/kernel"]
        )
        tq.project(q)


def test_two_kernels_of_one_name_in_nested_models():
    inner = [
        keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")], name=name)
        for name in "ab"
    ]
    inputs = keras.Input((4,))
    rows = tq.kernel_figures(tq.quantize(keras.Model(inputs, inner[1](inner[0](inputs)))))
    assert list(rows) == ["fc/kernel", "fc/kernel:1"]


def test_one_row_an_epoch():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(3), tq.MSQE())])
    q.compile(keras.optimizers.Adam(0.01), "mse")
    monitor = tq.Monitor()
    q.fit(*regression(), epochs=3, callbacks=[*tq.callbacks_for(q), monitor], verbose=0)
    assert len(monitor.rows) == 3
    assert monitor.rows[-1] == tq.kernel_figures(q) != monitor.rows[0]


def test_tensorboard_is_named_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    command = r"pip install 'tfqreg\[tensorboard\]'"
    with pytest.raises(ImportError, match=rf"Monitor\(.*\) needs TensorBoard: {command}"):
        tq.Monitor(log_dir=str(tmp_path))


def test_writes_to_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    q = tq.quantize(dense_net())
    q.compile("sgd", "mse")
    q.fit(*regression(), callbacks=[tq.Monitor(log_dir=str(tmp_path))], verbose=0)
    assert [file.stat().st_size > 0 for file in tmp_path.iterdir()] == [True]
