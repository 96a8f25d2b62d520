"""The stages of training, step by step."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression, run_python
from tfqreg.layers.kernel import Stage


def pruned_net(sparsity: float = 0.5, alpha: float = 0.01, **arguments) -> keras.Model:
    rule = tq.Rule(".*", tq.Uniform(4), tq.MSQE(alpha), tq.PartialL2(sparsity, **arguments))
    return tq.quantize(dense_net(), [rule], activations=None)


def walk(
    model: keras.Model, callback: tq.Stages, steps: int, epochs: int, stride: int = 1
) -> Iterator[int]:
    """Drives the callback as `fit` does, without training; yields after each batch begins."""
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback.set_model(model)
    callback.set_params({"steps": steps, "epochs": epochs, "verbose": 0})
    callback.on_train_begin()
    for epoch in range(epochs):
        model.optimizer.iterations.assign(epoch * steps)
        callback.on_epoch_begin(epoch)
        for batch in range(0, steps, stride):
            callback.on_train_batch_begin(batch)
            yield epoch * steps + batch


def stage(model: keras.Model) -> Stage:
    (found,) = {int(kernel.stage) for kernel, _ in kernels(model)}
    return Stage(found)


def masked(model: keras.Model) -> float:
    masks = [np.asarray(kernel.mask) for kernel, _ in kernels(model)]
    return 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)


def share_under_threshold(model: keras.Model) -> float:
    pairs = kernels(model)
    under = sum(np.sum(np.abs(variable) <= float(kernel.threshold)) for kernel, variable in pairs)
    return under / sum(kernel.count for kernel, _ in pairs)


@pytest.mark.parametrize("shares", [(0.45, 0.35, 0.85), (0.3, 0.3, 0.5), (0.5, 0.0, 1.0)])
def test_stages_change_at_their_steps(shares):
    q = pruned_net()
    seen = {step: stage(q) for step in walk(q, tq.Stages(*shares), steps=10, epochs=20)}
    prune_end, settle_start = round(shares[0] * 200), round(shares[2] * 200)
    expected = [Stage.PRUNE] * prune_end + [Stage.QUANTIZE] * (settle_start - prune_end)
    assert [*seen.values()] == expected + [Stage.SETTLE] * (200 - settle_start)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_the_threshold_rises_to_the_goal_and_the_freeze_is_exact(sparsity):
    q = pruned_net(sparsity)
    thresholds, shares = [], []
    for step in walk(q, tq.Stages(), steps=10, epochs=20):
        if step < 90:
            thresholds.append(float(kernels(q)[0][0].threshold))
            shares.append(share_under_threshold(q))
            assert masked(q) == 0.0
        else:
            assert masked(q) == round(sparsity * 112) / 112
    assert thresholds == sorted(thresholds) and thresholds[0] == 0.0
    for step in (8, 20, 40, 60):  # the cubic ramp ends at 70; thresholds are renewed every 4 steps
        assert shares[step] == pytest.approx(sparsity * (1 - (1 - step / 70) ** 3), abs=0.02)
    assert shares[72:] == pytest.approx([sparsity] * 18, abs=0.01)


def test_the_freeze_zeroes_masks_and_fits():
    q = pruned_net(0.5)
    weights = [np.array(variable) for _, variable in kernels(q)]
    for _ in walk(q, tq.Stages(), steps=10, epochs=10):
        pass
    threshold = np.sort(np.concatenate([np.abs(w).ravel() for w in weights]))[55]
    for w, (kernel, variable) in zip(weights, kernels(q), strict=True):
        np.testing.assert_array_equal(kernel.mask, np.abs(w) > threshold)
        np.testing.assert_array_equal(variable, np.where(np.abs(w) > threshold, w, 0))
        expected = tq.Uniform(4).fit_state(w, kernel.axes, np.abs(w) > threshold)["log2_scale"]
        np.testing.assert_allclose(kernel.state["log2_scale"], expected, atol=1e-5)


def test_layers_of_their_own_scope_each_reach_the_goal():
    q = pruned_net(0.25, scope="layer")
    for _ in walk(q, tq.Stages(), steps=10, epochs=10):
        pass
    assert [1 - np.asarray(kernel.mask).mean() for kernel, _ in kernels(q)] == [0.25, 0.25]


def test_pruned_at_once():
    q = pruned_net(0.5)
    steps = walk(q, tq.Stages(prune_until=0.0, ramp_until=0.0), steps=10, epochs=2)
    next(steps)
    assert stage(q) == Stage.QUANTIZE and masked(q) == 0.5


def test_without_pruning_quantized_from_the_first_step():
    q = tq.quantize(dense_net(), [tq.Rule(".*", regularizer=tq.MSQE(0.01))], activations=None)
    error = sum(float(kernel.grid_squares(variable)) for kernel, variable in kernels(q)) / 112
    penalty, seen = kernels(q)[0][0].regularizer, {}
    for step in walk(q, tq.Stages(), steps=10, epochs=10):
        seen[step] = stage(q)
        if step == 0:
            assert float(penalty.omega) == pytest.approx(np.log(0.01 / error) - 3.0, abs=1e-4)
    assert [*seen.values()] == [Stage.QUANTIZE] * 85 + [Stage.SETTLE] * 15


def test_coefficients_start_with_their_stage_and_settle_at_their_cap():
    q = pruned_net(0.5)
    prune, regularizer = kernels(q)[0][0].prune, kernels(q)[0][0].regularizer
    w = np.concatenate([np.abs(variable).ravel() for _, variable in kernels(q)])
    goal = np.sum(np.sort(w)[:56] ** 2) / 112
    for step in walk(q, tq.Stages(), steps=10, epochs=10):
        assert prune.started and regularizer.started == (step >= 45)
        if step == 0:
            assert float(prune.omega) == pytest.approx(np.log(prune.alpha / goal) - 3.0, abs=0.02)
        if step == 45:
            start = float(regularizer.omega)
            cap = float(regularizer.largest_omega)
            assert cap - start == pytest.approx(7.6, abs=1e-5)
        if step > 45:
            assert float(regularizer.omega) == pytest.approx(cap if step >= 85 else start)


def test_a_kernel_beside_pruned_ones_is_quantized_and_regularized_at_once():
    rules = [tq.Rule("body", prune=tq.PartialL2(0.5)), tq.Rule("head", tq.Uniform(2), tq.MSQE())]
    q = tq.quantize(dense_net(), rules, activations=None)
    next(walk(q, tq.Stages(), steps=10, epochs=10))
    (body, _), (head, _) = kernels(q)
    assert (int(body.stage), int(head.stage)) == (Stage.PRUNE, Stage.QUANTIZE)
    assert head.regularizer.started


@pytest.mark.parametrize("stride", [3, 7, 32])
def test_several_steps_an_execution(stride):
    """With `steps_per_execution` the callback sees few of the steps, none that matters."""
    q = pruned_net(0.5)
    seen = {step: stage(q) for step in walk(q, tq.Stages(), steps=1000, epochs=2, stride=stride)}
    for step, found in seen.items():
        expected = Stage.PRUNE if step < 900 else Stage.QUANTIZE if step < 1700 else Stage.SETTLE
        assert found == expected, step
    assert masked(q) == 0.5


def test_refresh_steps():
    updates = []
    q = pruned_net(0.5)
    before = None
    for step in walk(q, tq.Stages(refresh_steps=25), steps=1000, epochs=2):
        threshold = float(kernels(q)[0][0].threshold)
        if threshold != before and step < 700:
            updates.append(step)
        before = threshold
    assert updates == [*range(0, 700, 25)]


def test_total_steps_is_taken_as_it_is():
    q = pruned_net(0.5)
    seen = {step: stage(q) for step in walk(q, tq.Stages(total_steps=100), steps=5, epochs=10)}
    assert [*seen.values()] == [Stage.PRUNE] * 45 + [Stage.QUANTIZE] * 5
    q = pruned_net()
    assert {stage(q) for _ in walk(q, tq.Stages(total_steps=100), steps=5, epochs=1)} == {
        Stage.PRUNE
    }


def test_unknown_number_of_steps():
    q = pruned_net()
    with pytest.raises(
        ValueError,
        match=r"Stages: the length of the training is unknown.* Pass Stages\(total_steps",
    ):
        next(walk(q, tq.Stages(), steps=None, epochs=3))
    q.compile("sgd", "mse")
    x, y = regression()

    def batches():
        while True:
            yield x[:8], y[:8]

    q.fit(
        batches(),
        steps_per_epoch=2,
        epochs=2,
        shuffle=False,
        callbacks=tq.callbacks_for(q),
        verbose=0,
    )
    assert stage(q) == Stage.SETTLE


@pytest.mark.parametrize(
    "shares", [(0.3, 0.4, 0.8), (0.9, 0.1, 0.8), (0.5, -0.1, 0.8), (0.5, 0.5, 1.1)]
)
def test_shares_out_of_order(shares):
    with pytest.raises(ValueError, match=r"Stages: fractions must rise, .* Received: "):
        tq.Stages(*shares)


# Masks once frozen.


def test_a_second_training_leaves_frozen_kernels_alone():
    """Also those that lost no weight: all the smallest were in the other kernel."""
    q = pruned_net(0.5)
    head = kernels(q)[1][1]
    head.assign(np.full(head.shape, 5.0) + np.arange(16)[:, None])
    for _ in walk(q, tq.Stages(), steps=5, epochs=10):
        pass
    masks = [np.array(kernel.mask) for kernel, _ in kernels(q)]
    assert masks[1].all() and np.sum(~masks[0]) == 56
    scales = [np.array(kernel.state["log2_scale"]) for kernel, _ in kernels(q)]
    for _, variable in kernels(q):
        variable.assign(variable * 1.5)  # as training would
    for _ in walk(q, tq.Stages(), steps=5, epochs=10):
        assert stage(q) == Stage.SETTLE
    for mask, scale, (kernel, _) in zip(masks, scales, kernels(q), strict=True):
        np.testing.assert_array_equal(kernel.mask, mask)
        np.testing.assert_array_equal(kernel.state["log2_scale"], scale)


def test_a_freeze_at_share_0_happens_once():
    q = pruned_net(0.0)
    for _ in walk(q, tq.Stages(), steps=5, epochs=10):
        pass
    assert masked(q) == 0.0 and stage(q) == Stage.SETTLE
    for kernel, _ in kernels(q):
        kernel.state["log2_scale"].assign([[3.0]])
    for _ in walk(q, tq.Stages(), steps=5, epochs=10):
        pass
    assert {np.asarray(kernel.state["log2_scale"]).item() for kernel, _ in kernels(q)} == {3.0}


# Schedules.


def test_a_callable_of_the_step():
    q = pruned_net(0.5)
    for step in walk(q, tq.Stages(sparsity=lambda step: min(0.75, step / 40)), steps=10, epochs=10):
        if step in (8, 20):
            assert share_under_threshold(q) == pytest.approx(step / 40, abs=0.02)
    assert masked(q) == 0.75


def test_a_schedule_that_is_not_due_leaves_the_threshold():
    q = pruned_net(0.5)
    for step in walk(q, tq.Stages(sparsity=lambda step: (step == 20, 0.25)), steps=10, epochs=10):
        if step < 45:
            assert share_under_threshold(q) == pytest.approx(0.25 if step >= 20 else 0.0, abs=0.02)
    assert masked(q) == 0.25


def test_a_schedule_out_of_range():
    with pytest.raises(ValueError, match="must return a fraction of the weights"):
        next(walk(pruned_net(), tq.Stages(sparsity=lambda step: 80), steps=10, epochs=10))


TFMOT = """
import os, sys
before = os.environ.get("TF_USE_LEGACY_KERAS")
import numpy as np, keras, tfqreg as tq
import tensorflow_model_optimization as tfmot
sparsity = tfmot.sparsity.keras
polynomial = sparsity.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=20, frequency=4)
constant = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=4)
for schedule, expected in ((polynomial, 0.75), (constant, 0.5)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(16), keras.layers.Dense(1)])
    q = tq.quantize(model, [tq.Rule(".*", prune=tq.PartialL2(0.9))], activations=None)
    q.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    q.fit(x, x[:, :1], batch_size=4, epochs=6, callbacks=[tq.Stages(sparsity=schedule)], verbose=0)
    pairs = [pair for layer in q.layers[1:] for pair in layer.kernel_pairs()]
    masks = np.concatenate([np.array(kernel.mask).ravel() for kernel, _ in pairs])
    assert 1 - masks.mean() == expected, 1 - masks.mean()
print("accepted")
"""


@pytest.mark.long
def test_schedules_of_tensorflow_model_optimization():
    pytest.importorskip("tf_keras", reason="tensorflow_model_optimization is not installed")
    assert run_python(TFMOT).splitlines()[-1] == "accepted"


# In `fit`.


@pytest.mark.parametrize(
    "optimizer,execution",
    [
        (keras.optimizers.Adam(0.01), 1),
        (keras.optimizers.SGD(0.01, gradient_accumulation_steps=2), 4),
    ],
    ids=["adam", "accumulated"],
)
def test_fit(optimizer, execution):
    x, y = regression()
    q = pruned_net(0.5)
    q.compile(optimizer, "mse", steps_per_execution=execution)
    before = q.evaluate(x, y, verbose=0)
    q.fit(x, y, batch_size=8, epochs=12, callbacks=tq.callbacks_for(q), verbose=0)
    assert stage(q) == Stage.SETTLE and masked(q) == 0.5
    tq.strip(q).compile("sgd", "mse")
    assert np.mean((q.predict(x, verbose=0) - y) ** 2) < before


def test_settled_weights_stand_on_the_grid():
    x, y = regression()
    q = pruned_net(0.5, alpha=0.05)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    monitor = tq.Monitor()
    q.fit(x, y, batch_size=8, epochs=40, callbacks=[*tq.callbacks_for(q), monitor], verbose=0)
    errors = [np.mean([row["grid_error"] for row in rows.values()]) for rows in monitor.rows]
    assert errors[0] > 0.2 and errors[-1] < 0.02  # 0.29 if weights are spread evenly


def test_callbacks_for():
    assert [type(callback) for callback in tq.callbacks_for(pruned_net())] == [tq.Stages]
    with pytest.raises(
        ValueError,
        match=r"dense_net: no wrapped layers. Call tfqreg.quantize\(model, rules\) first",
    ):
        tq.callbacks_for(dense_net())
