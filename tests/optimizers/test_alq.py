"""The optimizer of multi-bit weights: its steps on the quadratic model, its place in Keras."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression
from tfqreg.optimizers import Mode, alq
from tfqreg.optimizers.quadratic import (
    basis_step,
    chunks,
    model_value,
    nearest_codes,
    normal_equations,
    sign_table,
    signs_of,
)
from tfqreg.pruning.bases import Candidates, increase, to_delete

RNG = np.random.default_rng(0)
X, Y = regression()


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def problem(bases: int = 3, size: int = 20) -> dict[str, np.ndarray]:
    """Targets, curvatures, coordinates and valid bases of 4 x 3 groups."""
    valid = RNG.random((4, 3, bases)) < 0.8
    return {
        "target": normal(4, 3, size),
        "curvature": RNG.uniform(0.1, 3.0, (4, 3, size)).astype(np.float32),
        "alpha": RNG.uniform(0.1, 1.0, (4, 3, bases)).astype(np.float32) * valid,
        "valid": valid,
    }


def loss_of(alpha: np.ndarray, basis: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    """1/2 sum H (B alpha - w*)^2 by group, in float64."""
    w = np.einsum("cpi,cpin->cpn", np.float64(alpha), np.float64(basis))
    return (p["curvature"] * np.square(w - p["target"])).sum(-1) / 2


def compiled(mode: Mode = Mode.BASIS, bases: int = 3, rate: float = 0.01, **options) -> keras.Model:
    """6 -> 16 -> 1 with multi-bit weights, in a mode."""
    model = tq.quantize(dense_net(), [tq.Rule(".*", tq.MultiBit(bases=bases))], activations=None)
    model.compile(tq.ALQ(rate, **options), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.mode.assign(int(mode))
    return model


def fit(model: keras.Model, epochs: int = 2) -> float:
    return model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"][
        -1
    ]


def nearest_signs(target: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.asarray(signs_of(nearest_codes(target, alpha), np.ones_like(alpha)))


@pytest.mark.parametrize("bases", [1, 2, 3, 6, 8])
def test_nearest_signs_are_those_of_the_exhaustive_table(bases):
    p = problem(bases)
    basis = nearest_signs(p["target"], p["alpha"])
    assert basis.shape == (4, 3, bases, 20) and set(np.unique(basis)) == {-1.0, 1.0}
    table = np.float32(list(itertools.product((-1, 1), repeat=bases)))
    distances = np.abs(p["target"][..., None] - (p["alpha"] @ table.T)[:, :, None])
    found = np.abs(p["target"] - np.einsum("cpi,cpin->cpn", p["alpha"], basis))
    np.testing.assert_allclose(found, distances.min(-1), atol=1e-5)


@pytest.mark.parametrize("bases", [1, 2, 4, 6])
def test_invariant_6_nearest_signs_recover_the_bases_of_exact_sums(bases):
    alpha = np.broadcast_to(np.float32(2.0 ** np.arange(bases)), (2, 3, bases))
    basis = np.where(RNG.random((2, 3, bases, 50)) < 0.5, -1.0, 1.0).astype(np.float32)
    np.testing.assert_array_equal(
        nearest_signs(np.einsum("cpi,cpin->cpn", alpha, basis), alpha), basis
    )


def test_normal_equations_are_the_model_in_the_coordinates():
    p = problem()
    codes = np.asarray(nearest_codes(p["target"], p["alpha"]))
    basis = np.asarray(signs_of(codes, np.float32(p["valid"])))
    matrix, right = normal_equations(p["target"], p["curvature"], codes, sign_table(3), p["valid"])
    total = p["curvature"].sum(-1)
    zero = loss_of(0.0 * p["alpha"], basis, p)
    for alpha in (p["alpha"], normal(4, 3, 3) * p["valid"]):
        expected = (loss_of(alpha, basis, p) - zero) / total
        np.testing.assert_allclose(model_value(alpha, matrix, right), expected, atol=1e-5)


@pytest.mark.parametrize("bases", [1, 3, 6])
def test_invariant_2_neither_part_of_a_basis_step_raises_the_model(bases):
    p = problem(bases)
    old = np.where(RNG.random((4, 3, bases, 20)) < 0.5, -1.0, 1.0)
    start = loss_of(p["alpha"], old, p)
    signs = loss_of(p["alpha"], nearest_signs(p["target"], p["alpha"]), p)
    basis, alpha, refused = basis_step(**p)
    end = loss_of(alpha, basis, p)
    some = p["valid"].any(-1)  # a group without a base is zero before and after
    assert int(refused) == 0
    assert (signs <= start + 1e-5).all() and (signs < start)[some].all()
    assert (end <= signs + 1e-5).all() and (end < signs)[some].any()


def test_basis_step_solves_for_the_coordinates():
    p = problem()
    basis, alpha, _ = (np.asarray(x, np.float64) for x in basis_step(**p))
    for group in np.ndindex(4, 3):
        b, h = basis[group][p["valid"][group]], p["curvature"][group].astype(np.float64)
        exact = np.linalg.lstsq(
            b.T * np.sqrt(h)[:, None], np.sqrt(h) * p["target"][group], rcond=None
        )[0]
        np.testing.assert_allclose(alpha[group][p["valid"][group]], exact, rtol=1e-3, atol=1e-4)
        assert (
            not alpha[group][~p["valid"][group]].any()
            and not basis[group][~p["valid"][group]].any()
        )


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_coordinates_do_not_depend_on_the_scale_of_the_curvature(scale):
    p = problem()
    _, expected, _ = basis_step(**p)
    _, alpha, refused = basis_step(**{**p, "curvature": p["curvature"] * np.float32(scale)})
    np.testing.assert_allclose(alpha, expected, rtol=1e-3, atol=1e-5)
    assert int(refused) == 0


def test_singular_systems_keep_finite_coordinates():
    target = np.abs(normal(1, 1, 8)) + 1.0
    ones = np.ones((1, 1, 2), bool)
    # Both levels are far below the targets: both bases are all ones, and their system is singular.
    basis, alpha, _ = basis_step(target, np.ones_like(target), np.float32([[[0.1, 0.1]]]), ones)
    np.testing.assert_array_equal(basis, np.ones((1, 1, 2, 8)))
    np.testing.assert_allclose(np.asarray(alpha).sum(), target.mean(), rtol=1e-4)


def test_broken_targets_are_refused_and_counted():
    p = problem()
    p["target"][1, 2, 3] = np.nan
    _, alpha, refused = basis_step(**p)
    assert int(refused) == 1
    np.testing.assert_array_equal(np.asarray(alpha)[1, 2], p["alpha"][1, 2])


@pytest.mark.parametrize("mode", list(Mode))
def test_invariant_1_weights_are_bases_times_coordinates(mode):
    model = compiled(mode)
    fit(model)
    for kernel, variable in kernels(model):
        basis, alpha, valid = (
            np.asarray(kernel.state[name]) for name in ("basis", "alpha", "valid")
        )
        assert (
            set(np.unique(basis[valid])) <= {-1, 1}
            and not basis[~valid].any()
            and not alpha[~valid].any()
        )
        groups = kernel.quantizer.groups(tuple(variable.shape), kernel.axes)
        w = groups.join(np.einsum("cpi,cpin->cpn", alpha, basis))
        np.testing.assert_allclose(kernel.quantized(variable), w, atol=1e-6)
        if mode != Mode.STE:  # where float weights stand behind them
            np.testing.assert_allclose(variable, w, atol=1e-6)
        if mode in (Mode.BASIS, Mode.STE):
            assert (alpha >= 0).all()


def test_a_basis_step_is_that_of_amsgrad_where_bases_abound():
    # One weight a group of two coordinates reaches any target.
    model = compiled(bases=1)
    kernel, variable = kernels(model)[1]  # 16 -> 1: one group
    before = np.asarray(kernel.quantized(variable))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(X[:16]) - Y[:16]))
    g = tape.gradient(loss, variable).numpy()
    model.train_on_batch(X[:16], Y[:16])
    target = before - 0.01 * g / (np.abs(g) + 1e-8)  # the first step of Adam
    basis = np.where(target > 0, 1.0, -1.0)
    h = np.abs(g) + 1e-8
    expected = basis * (h * np.abs(target)).sum() / h.sum()
    np.testing.assert_allclose(kernel.quantized(variable), expected, atol=1e-5)


def test_invariant_3_a_coordinate_step_is_amsgrad_on_the_coordinates():
    model, twin = compiled(Mode.COORDINATE), compiled(Mode.COORDINATE)
    pairs = kernels(twin)
    coordinates = [keras.Variable(kernel.state["alpha"].numpy()) for kernel, _ in pairs]
    rest = [v for v in twin.trainable_variables if not hasattr(v, "multibit")]
    adams = keras.optimizers.Adam(0.01, amsgrad=True), keras.optimizers.Adam(0.01)
    for step in range(6):
        x, y = X[8 * step : 8 * step + 8], Y[8 * step : 8 * step + 8]
        model.train_on_batch(x, y)
        for (kernel, _), alpha in zip(pairs, coordinates, strict=True):
            kernel.state["alpha"].assign(alpha)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(twin(x) - y))
        by_weight, others = tape.gradient(
            loss, [[w.value for _, w in pairs], [v.value for v in rest]]
        )
        gradients = [
            np.einsum(
                "cpin,cpn->cpi",
                k.state["basis"],
                k.quantizer.groups(tuple(w.shape), k.axes).split(g),
            )
            for (k, w), g in zip(pairs, by_weight, strict=True)
        ]
        adams[0].apply(gradients, coordinates)
        adams[1].apply(others, rest)
    for (kernel, _), alpha in zip(kernels(model), coordinates, strict=True):
        np.testing.assert_allclose(kernel.state["alpha"], alpha, rtol=1e-4, atol=1e-6)
    # The least of slope d + curvature d^2 / 2 is at d = -slope / curvature, where it is -slope^2 /
    # (2 curvature).
    slope, curvature = (
        np.asarray(x) for x in model.optimizer.coordinate_model(kernels(model)[0][1])
    )
    d = -slope / curvature
    np.testing.assert_allclose(
        (slope * d + curvature * d**2 / 2).sum(), -(slope**2 / curvature).sum() / 2, rtol=1e-5
    )


def test_invariant_4_moments_of_the_coordinates_after_a_basis_step():
    model = compiled()
    fit(model, 1)
    optimizer = model.optimizer
    for kernel, variable in kernels(model):
        index = optimizer._get_variable_index(variable)
        shape = kernel.state["basis"].shape
        m, v, _ = (
            np.asarray(moments[index]).reshape(*shape[:2], shape[3])
            for moments in (optimizer._momentums, optimizer._velocities, optimizer._hats)
        )
        momentum, velocity, _ = map(np.asarray, optimizer._coordinate_moments[index])
        valid = np.asarray(kernel.state["valid"])
        np.testing.assert_allclose(
            momentum, np.einsum("cpin,cpn->cpi", kernel.state["basis"], m), atol=1e-6
        )
        np.testing.assert_allclose(velocity, v.sum(-1, keepdims=True) * valid, rtol=1e-5)


def test_invariant_4_the_gradient_of_the_coordinates_is_that_of_the_weights_on_the_bases():
    model = compiled()
    kernel, variable = kernels(model)[0]
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_mean(tf.square(model(X) - Y))
    by_alpha = tape.gradient(loss, kernel.state["alpha"].value)
    assert by_alpha is None  # the forward pass hands the gradient to the weights
    g = kernel.quantizer.groups(tuple(variable.shape), kernel.axes).split(
        tape.gradient(loss, variable.value)
    )
    expected = alq.gradient_in_coordinates(kernel.state["basis"].numpy().astype(np.float32), g)
    value, step = np.asarray(kernel.state["alpha"]).copy(), 1e-2
    for place in ((0, 0, 0), (3, 0, 2)):
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            kernel.state["alpha"].assign(moved)
            losses.append(float(tf.reduce_mean(tf.square(model(X) - Y))))
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(
            float(expected[place]), rel=0.05, abs=1e-4
        )


def test_invariant_7_the_modelled_increase_is_the_model_without_the_base():
    slope, alpha = RNG.normal(size=(2, 4, 3, 2))
    curvature, valid = RNG.uniform(0.1, 2.0, (4, 3, 2)), RNG.random((4, 3, 2)) < 0.7
    scores = increase(slope, curvature, alpha, valid)
    for place in np.ndindex(4, 3, 2):
        d = np.zeros_like(alpha)
        d[place] = -alpha[place]
        expected = (slope * d + curvature * d**2 / 2).sum() if valid[place] else np.inf
        assert scores[place] == pytest.approx(expected)


def test_invariant_7_exactly_the_requested_number_is_deleted():
    kernels = [Candidates(RNG.random((4, 3, 2)), 1), Candidates(RNG.random((5, 1, 4)), 1)]
    for number in (0, 1, 7, 20):
        chosen = to_delete(kernels, number, 1.0, 0.0)
        assert sum(int(c.sum()) for c in chosen) == number
        kept = [k.scores[~c] for k, c in zip(kernels, chosen, strict=True)]
        gone = [k.scores[c] for k, c in zip(kernels, chosen, strict=True)]
        if number:
            assert np.concatenate(gone).max() <= np.concatenate(kept).min()


def test_pruning_weighs_the_loss_by_the_bits_saved_and_keeps_the_floor():
    cheap, dear = Candidates(np.full((4, 1, 2), 1.0), 100), Candidates(np.full((4, 1, 2), 0.5), 10)
    chosen = to_delete([cheap, dear], 300, 1.0, 0.0)
    assert [int(c.sum()) for c in chosen] == [3, 0]
    chosen = to_delete([cheap, dear], 10_000, 1.0, 0.5)
    assert [int(c.sum()) for c in chosen] == [6, 6]  # half a bit stays: two bases of four groups
    chosen = to_delete([cheap, dear], 10_000, 1.0, 0.0)
    assert [int(c.sum()) for c in chosen] == [7, 7]  # one base always does
    chosen = to_delete([cheap, dear], 10_000, 0.25, 0.0)
    assert [int(c.sum()) for c in chosen] == [2, 2]


@pytest.mark.parametrize("largest", [1, 40, 10**6])
def test_chunks_cover_all_channels_once(largest):
    parts = chunks((7, 2, 5), 3, largest)
    assert [c for part in parts for c in range(7)[part]] == list(range(7))
    assert all(len(range(7)[part]) * 30 <= max(largest, 30) for part in parts)


def test_chunks_change_nothing(monkeypatch):
    whole = compiled()
    fit(whole)
    monkeypatch.setattr(alq, "LARGEST_CHUNK", 150)
    parts = compiled()
    fit(parts)
    for (a, w), (b, u) in zip(kernels(whole), kernels(parts), strict=True):
        np.testing.assert_allclose(w, u, atol=1e-5)
        assert (np.asarray(a.state["basis"]) != np.asarray(b.state["basis"])).mean() < 0.01


@pytest.mark.parametrize("mode", [Mode.BASIS, Mode.COORDINATE, Mode.STE])
def test_every_learning_mode_learns(mode):
    model = compiled(mode)
    first = model.evaluate(X, Y, verbose=0)
    assert fit(model, 20) < 0.5 * first


def test_modes_change_without_a_new_trace():
    model = compiled()
    fit(model, 1)
    traces = []

    def count(*arguments):
        traces.append(arguments)

    model.optimizer.update_step = count
    for mode in Mode:
        model.optimizer.mode.assign(int(mode))
        fit(model, 1)
    assert traces == []


def test_without_the_loss_only_the_weights_error_counts():
    model = compiled(loss_aware=False, bases=2)
    fit(model)
    kernel, variable = kernels(model)[0]
    groups = kernel.quantizer.groups(tuple(variable.shape), kernel.axes)
    w, basis = (
        np.asarray(groups.split(variable.value)),
        np.asarray(kernel.state["basis"], np.float64),
    )
    residual = w - np.einsum("cpi,cpin->cpn", kernel.state["alpha"], basis)
    assert np.abs(residual).max() > 1e-3  # float weights stand behind
    np.testing.assert_allclose(np.einsum("cpin,cpn->cpi", basis, residual), 0.0, atol=1e-4)
    slope, curvature = model.optimizer.coordinate_model(variable)
    assert not np.any(slope) and (np.asarray(curvature) == groups.size).all()


def test_on_the_grid_coordinates_move_the_unit():
    model = compiled(Mode.COORDINATE)
    tq.project(model)
    kernel, variable = kernels(model)[0]
    unit = np.asarray(kernel.state["unit"]).copy()
    fit(model)
    assert kernel.quantizer.on_grid(kernel.state)
    assert (np.asarray(kernel.state["unit"]) != unit).any()
    codes, params = kernel.encode(variable)
    np.testing.assert_array_equal(
        kernel.quantizer.decode(codes, params), kernel.quantized(variable)
    )
    model.optimizer.mode.assign(int(Mode.BASIS))
    fit(model, 1)
    assert not kernel.quantizer.on_grid(kernel.state)


def test_saved_and_loaded_with_its_state(tmp_path):
    model = compiled(Mode.COORDINATE, beta_1=0.8, clipnorm=1.0)
    fit(model)
    model.optimizer.learning_rate = 0.003
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.initial_rate == 0.01 and float(
        loaded.optimizer.learning_rate
    ) == pytest.approx(0.003)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert fit(model, 1) == fit(loaded, 1)


def test_other_layers_are_trained_by_adam():
    def two(optimizer, quantizer):
        model = tq.quantize(
            dense_net(), [tq.Rule("body", tq.Uniform(8)), tq.Rule("head", quantizer)], None
        )
        model.compile(optimizer, "mse")
        model.train_on_batch(X, Y)
        return np.asarray(model.get_layer("head").layer.bias)

    expected = two(keras.optimizers.Adam(0.01), tq.Uniform(8))
    np.testing.assert_allclose(two(tq.ALQ(0.01), tq.MultiBit(bases=8)), expected, atol=1e-5)


@pytest.mark.parametrize("quantizer", [None, tq.Uniform(4)])
def test_alq_without_multi_bit_weights(quantizer):
    model = (
        dense_net() if quantizer is None else tq.quantize(dense_net(), [tq.Rule(".*", quantizer)])
    )
    model.compile(tq.ALQ(), "mse")
    with pytest.raises(
        ValueError, match=r"ALQ: no layer has multi-bit weights.*body/kernel.*head/bias"
    ):
        fit(model)


@pytest.mark.parametrize("before", [False, True])
def test_multi_bit_weights_without_alq(before):
    model = compiled()
    if before:
        fit(model)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"body/kernel: only ALQ trains multi-bit weights"):
        fit(model)


def test_unknown_variables_are_refused():
    model = compiled()
    with pytest.raises(ValueError, match="Unknown variable"):
        model.optimizer.apply([np.ones(2, np.float32)], [keras.Variable([1.0, 1.0])])
