"""The learnable coefficient: learned, constant and scheduled; global and a layer; shared, saved,
settled.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, finite_difference, kernels, regression, weights
from tfqreg import MSQE, PartialL2
from tfqreg.regularizers.coefficient import OMEGA_PER_UNIT, LearnedPenalty

BOTH = [MSQE, lambda **arguments: PartialL2(0.5, **arguments)]


def cost(penalty: LearnedPenalty, squares: float, count: int) -> float:
    return float(penalty.cost(tf.constant(squares), count))


@pytest.mark.parametrize("make", BOTH)
def test_cost_by_hand(make):
    penalty = make(alpha=0.5)
    penalty.register(weights(30))
    penalty.register(weights(10))
    penalty.assign_omega(2.0)
    assert cost(penalty, 8.0, 10) == pytest.approx(np.exp(2.0) * 8 / 40, rel=1e-6)


def test_shares_of_the_layers_add_up_to_the_cost_of_the_whole():
    parts, whole = MSQE(alpha=0.3), MSQE(alpha=0.3)
    for penalty, counts in ((parts, (10, 70)), (whole, (80,))):
        penalty.assign_omega(-1.0)
        for count in counts:
            penalty.register(weights(count))
    assert cost(parts, 2.0, 10) + cost(parts, 3.0, 70) == pytest.approx(
        cost(whole, 5.0, 80), rel=1e-6
    )


@pytest.mark.parametrize("omega,squares", [(-2.0, 3.0), (0.0, 0.1), (1.5, 40.0)])
def test_gradient_in_omega(omega, squares):
    penalty = MSQE(alpha=0.02)
    penalty.register(weights(40))
    penalty.assign_omega(omega)
    with tf.GradientTape() as tape:
        value = penalty.cost(tf.constant(squares), 40)
    gradient = tape.gradient(value, penalty.omega_unit.value).numpy() / OMEGA_PER_UNIT
    expected = finite_difference(lambda o: np.exp(o) * squares / 40 - 0.02 * o, omega)
    assert gradient == pytest.approx(expected, rel=1e-4)
    assert gradient == pytest.approx(np.exp(omega) * squares / 40 - 0.02, rel=1e-4)


def test_gradient_in_omega_of_a_share():
    penalty = MSQE(alpha=0.02)
    penalty.register(weights(10))
    penalty.register(weights(30))
    with tf.GradientTape() as tape:
        value = penalty.cost(tf.constant(3.0), 30)
    gradient = tape.gradient(value, penalty.omega_unit.value).numpy() / OMEGA_PER_UNIT
    assert gradient == pytest.approx(3.0 / 40 - 0.02 * 30 / 40, rel=1e-4)


@pytest.mark.parametrize("pruning", [True, False])
def test_gradient_in_the_omega_of_several_layers(pruning):
    """Every layer counts its own weights: the pulls add up to one alpha."""
    rule = tq.Rule(".*", tq.Uniform(3), MSQE(alpha=0.02), PartialL2(0.5, alpha=0.02))
    q = tq.quantize(dense_net(), [rule], None)
    squares = 0.0
    for kernel, variable in kernels(q):
        kernel.stage.assign(0 if pruning else 1)
        kernel.set_threshold(0.1)
        w = np.asarray(variable)
        squares += (
            np.sum(w[np.abs(w) <= 0.1] ** 2) if pruning else float(kernel.grid_squares(variable))
        )
    penalty = kernels(q)[0][0].prune if pruning else kernels(q)[0][0].regularizer
    with tf.GradientTape() as tape:
        value = sum(q.losses)
    gradient = tape.gradient(value, penalty.omega_unit.value).numpy() / OMEGA_PER_UNIT
    assert gradient == pytest.approx(squares / 112 - 0.02, rel=1e-3)


def test_constant_coefficient():
    penalty = MSQE(alpha=7.0, coefficient=0.25)
    penalty.register(weights(10))
    assert cost(penalty, 8.0, 10) == pytest.approx(0.2)
    assert not penalty.learned and penalty.trainable_variables == []
    penalty.start_from(1.0)
    penalty.settle()
    assert cost(penalty, 8.0, 10) == pytest.approx(0.2)


def test_scheduled_coefficient():
    penalty = MSQE(coefficient=lambda step: 0.1 * (step + 1))
    penalty.register(weights(10))
    assert penalty.trainable_variables == []
    for step in (0, 3, 100):
        penalty.at_step(step, 100)
        assert cost(penalty, 1.0, 10) == pytest.approx(0.01 * (step + 1), rel=1e-5)
    MSQE().at_step(5, 100)  # learned: nothing to do


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_schedule_that_gives_no_number(value):
    penalty = MSQE(coefficient=lambda step: value, name="pull")
    with pytest.raises(
        ValueError, match=r"pull: `coefficient` must return finite numbers. Received: .* at step 7"
    ):
        penalty.at_step(7, 10)


def test_a_schedule_of_keras_survives_the_config():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 1.0)
    penalty = MSQE(coefficient=schedule)
    twin = MSQE.from_config(penalty.get_config())
    for p in (penalty, twin):
        p.register(weights(1))
        p.at_step(50, 100)
    assert cost(twin, 1.0, 1) == cost(penalty, 1.0, 1) == pytest.approx(0.55, rel=1e-5)


@pytest.mark.parametrize("make", BOTH)
def test_config_round_trip(make):
    for arguments in ({}, {"alpha": 0.3}, {"coefficient": 2.0}, {"scope": "layer"}):
        penalty = make(**arguments)
        twin = type(penalty)(**penalty.get_config())
        assert twin.get_config() == penalty.get_config()
        restored = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(penalty)
        )
        assert restored.get_config() == penalty.get_config()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "much", None])
def test_alpha_must_be_positive(make, alpha):
    with pytest.raises(
        ValueError, match=r"(MSQE|PartialL2): `alpha` must be a positive number. Received: alpha="
    ):
        make(alpha=alpha)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("coefficient", [0.0, -2.0, "learnt", None, float("nan")])
def test_unknown_coefficient(make, coefficient):
    with pytest.raises(
        ValueError, match=r"`coefficient` must be \"learned\", a positive .* Received: coefficient="
    ):
        make(coefficient=coefficient)


@pytest.mark.parametrize("make", BOTH)
def test_unknown_scope(make):
    with pytest.raises(
        ValueError, match=r"`scope` must be \"global\" or \"layer\". Received: scope='model'"
    ):
        make(scope="model")


def test_start_and_growth():
    penalty = MSQE(alpha=0.01)
    assert not penalty.started
    penalty.start_from(0.0)  # already on the grid: nothing to start from
    assert not penalty.started
    penalty.start_from(1e-3)
    assert penalty.started
    assert float(penalty.omega) == pytest.approx(np.log(10) - 3.0, abs=1e-5)
    penalty.assign_omega(50.0)
    assert float(penalty.omega) == pytest.approx(np.log(10) + 4.6, abs=1e-5)


def test_settled_omega_stays_at_its_cap():
    penalty = MSQE(alpha=0.01)
    penalty.settle()  # not started: no cap to stand at
    assert float(penalty.omega) == 0.0
    penalty.start_from(1e-3)
    penalty.settle()
    for omega in (-5.0, 0.0, 90.0):
        penalty.assign_omega(omega)
        assert float(penalty.omega) == pytest.approx(np.log(10) + 4.6, abs=1e-5)


# In models.


def test_one_object_is_one_variable_for_all_layers():
    q = tq.quantize(dense_net(), [tq.Rule(".*", regularizer=MSQE())])
    assert len([v for v in q.trainable_variables if v.name == "omega_unit"]) == 1
    assert kernels(q)[0][0].regularizer is kernels(q)[1][0].regularizer
    assert kernels(q)[0][0].regularizer.count == 6 * 16 + 16


def test_scope_layer_is_one_variable_a_layer():
    shared = MSQE(scope="layer")
    q = tq.quantize(dense_net(), [tq.Rule(".*", regularizer=shared)])
    assert len([v for v in q.trainable_variables if v.name == "omega_unit"]) == 2
    assert [kernel.regularizer.count for kernel, _ in kernels(q)] == [6 * 16, 16]


def test_two_objects_are_two_variables():
    q = tq.quantize(
        dense_net(), [tq.Rule("body", regularizer=MSQE()), tq.Rule("head", regularizer=MSQE())]
    )
    assert len([v for v in q.trainable_variables if v.name == "omega_unit"]) == 2


def test_the_rules_stay_the_callers():
    rules = [tq.Rule(".*", regularizer=MSQE(), prune=PartialL2(0.5))]
    first, second = tq.quantize(dense_net(), rules), tq.quantize(dense_net(), rules)
    assert kernels(first)[0][0].regularizer is not kernels(second)[0][0].regularizer
    assert rules[0].regularizer.count == 0 and rules[0].prune.count == 0


@pytest.mark.parametrize("scope,expected", [("global", 1), ("layer", 2)])
def test_sharing_survives_saving(tmp_path, scope, expected):
    penalty, prune = MSQE(scope=scope), PartialL2(0.5, scope=scope)
    inputs = keras.Input((6,))
    x = tq.Quantized(layers.Dense(4, name="a"), tq.Uniform(4), penalty, prune)(inputs)
    model = keras.Model(
        inputs, tq.Quantized(layers.Dense(1, name="b"), tq.Uniform(4), penalty, prune)(x)
    )
    for value, (kernel, _) in enumerate(kernels(model)):
        kernel.regularizer.start_from(0.1 * (value + 1))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for kind in ("regularizer", "prune"):
        assert len({id(getattr(kernel, kind)) for kernel, _ in kernels(loaded)}) == expected
    assert len([v for v in loaded.trainable_variables if v.name == "omega_unit"]) == 2 * expected
    for (old, _), (new, _) in zip(kernels(model), kernels(loaded), strict=True):
        assert float(new.regularizer.omega) == float(old.regularizer.omega)
        assert new.regularizer.count == old.regularizer.count
    loaded.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    assert len({id(kernel.regularizer) for kernel, _ in kernels(again)}) == expected


def test_the_penalty_is_part_of_the_loss():
    x, y = regression()
    q = tq.quantize(
        dense_net(), [tq.Rule(".*", weights=tq.Uniform(3), regularizer=MSQE(coefficient=2.0))], None
    )
    q.compile("sgd", "mse")
    error = np.mean((q.predict(x, verbose=0) - y) ** 2)
    squares = sum(float(kernel.grid_squares(variable)) for kernel, variable in kernels(q))
    assert q.evaluate(x, y, verbose=0) == pytest.approx(
        error + 2.0 * squares / (6 * 16 + 16), rel=1e-4
    )
