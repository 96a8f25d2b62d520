"""Multi-bit weights: groups, sketching, whole-number coordinates, and their wrapper."""

import keras
import numpy as np
import pytest

import tfqreg as tq
from tests.tiny_nets import conv_net, dense_net, gradients, kernels
from tfqreg.projection import projected
from tfqreg.pruning.bases import delete, storage_bytes
from tfqreg.quantizers.groups import groups_of
from tfqreg.quantizers.integer_alpha import integer_units
from tfqreg.quantizers.sketching import sketch

RNG = np.random.default_rng(0)
DENSE, CONV = ((12, 5), (1,)), ((3, 3, 4, 6), (3,))


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def kernel_state(
    quantizer: tq.MultiBit, w: np.ndarray, axes: tuple[int, ...], whole: bool = False
) -> dict:
    state = quantizer.fit_state(w, axes)
    return {**state, **(quantizer.project(state) if whole else {})}


@pytest.mark.parametrize(
    "structure,shape,axes,member",
    [
        ("channelwise", *CONV, lambda w, c, p: w[..., c]),
        ("kernelwise", *CONV, lambda w, c, p: w[:, :, p, c]),
        ("pixelwise", *CONV, lambda w, c, p: w[p // 3, p % 3, :, c]),
        ("subchannel", *DENSE, lambda w, c, p: w[4 * p : 4 * p + 4, c]),
        ("channelwise", (3, 3, 6, 4), (2,), lambda w, c, p: w[:, :, c, :]),
        ("channelwise", (3, 3, 4, 2), (2, 3), lambda w, c, p: w[:, :, c // 2, c % 2]),
    ],
)
def test_groups_hold_the_weights_their_structure_says(structure, shape, axes, member):
    groups, w = groups_of(shape, axes, structure, 3), normal(*shape)
    split = np.asarray(groups.split(w))
    for channel in range(groups.channels):
        for part in range(groups.parts):
            np.testing.assert_array_equal(split[channel, part], member(w, channel, part).ravel())
    np.testing.assert_array_equal(groups.join(split), w)


@pytest.mark.parametrize(
    "shape,parts",
    [
        ((5, 5, 1, 20), 1),
        ((5, 5, 20, 50), 20),
        ((800, 500), 2),
        ((500, 10), 1),
        ((3, 3, 3, 128), 1),
        ((3, 3, 128, 128), 9),
        ((8192, 1024), 16),
        ((1024, 10), 2),
    ],
)
def test_automatic_groups_are_those_of_the_paper(shape, parts):
    assert groups_of(shape, (len(shape) - 1,)).parts == parts


@pytest.mark.parametrize("bases", [1, 3, 6])
def test_invariant_5_sketching_leaves_a_smaller_residual_orthogonal_to_its_bases(bases):
    w = normal(4, 3, 25)
    before = np.square(w).sum(-1)
    for count in range(1, bases + 1):
        basis, alpha, valid = sketch(w, count)
        assert valid.all() and (alpha > 0).all() and (np.diff(alpha, axis=-1) >= 0).all()
        assert set(np.unique(basis)) == {-1, 1}
        residual = w - np.einsum("cpi,cpin->cpn", alpha, basis)
        assert (np.square(residual).sum(-1) < before).all()
        before = np.square(residual).sum(-1)
        np.testing.assert_allclose(np.einsum("cpin,cpn->cpi", basis, residual), 0.0, atol=1e-4)
    if bases == 1:
        np.testing.assert_allclose(alpha[..., 0], np.abs(w).mean(-1), rtol=1e-6)


def test_sketching_stops_where_nothing_is_left():
    basis, alpha, valid = sketch(
        np.float32([[0.0] * 4, [0.5, -0.5, 0.5, 0.5], [3.0, 1.0, -1.0, -3.0]]), 4
    )
    assert valid.sum(-1).tolist() == [0, 1, 2]
    assert not basis[~valid].any() and not alpha[~valid].any()
    np.testing.assert_allclose(alpha[2, :2], [1.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    "shape,axes", [DENSE, CONV, ((3, 3, 1, 1), (3,)), ((6, 1), (1,)), ((2, 3, 4), (1, 2))]
)
def test_weights_are_bases_times_coordinates(shape, axes):
    quantizer, w = tq.MultiBit(bases=2), normal(*shape)
    state = kernel_state(quantizer, w, axes)
    groups = quantizer.groups(shape, axes)
    expected = np.einsum("cpi,cpin->cpn", state["alpha"], state["basis"])
    np.testing.assert_allclose(quantizer.nearest(w, state), groups.join(expected), atol=1e-6)
    np.testing.assert_array_equal(gradients(lambda w: quantizer(w, state), w)[0], np.ones(shape))


@pytest.mark.parametrize("shape,axes", [DENSE, CONV])
def test_invariant_9_groups_of_one_base_have_two_values_and_of_none_are_zero(shape, axes):
    quantizer = tq.MultiBit("channelwise", bases=1)
    state = kernel_state(quantizer, normal(*shape), axes)
    state["valid"][0], state["basis"][0], state["alpha"][0] = False, 0, 0.0
    values = np.asarray(quantizer.nearest(normal(*shape), state)).reshape(-1, shape[-1])
    assert not values[:, 0].any()
    for channel in range(1, shape[-1]):
        high = state["alpha"][channel, 0, 0]
        assert set(np.unique(values[:, channel])) == {-high, high}


@pytest.mark.parametrize("shape,axes", [DENSE, CONV])
def test_whole_coordinates_decode_bit_for_bit(shape, axes):
    quantizer, w = tq.MultiBit(bases=4), normal(*shape)
    state = kernel_state(quantizer, w, axes)
    assert not quantizer.on_grid(state)
    near = quantizer.decode(*quantizer.encode(w, state))
    state |= quantizer.project(state)
    assert quantizer.on_grid(state)
    codes, params = quantizer.encode(w, state)
    np.testing.assert_array_equal(quantizer.decode(codes, params), quantizer(w, state))
    np.testing.assert_array_equal(near, quantizer(w, state))
    assert np.abs(codes.astype(int)).max() <= 127 and np.abs(codes.astype(int)).max() < 2 ** (
        params["bits"] - 1
    )


def test_units_are_the_coarsest_within_the_tolerance():
    alpha = np.abs(normal(7, 3, 4)) + 0.1
    errors, largest = [], []
    for tolerance in (0.2, 0.02, 0.002):
        unit = integer_units(alpha, tolerance)[:, None, None]
        whole = np.rint(alpha / unit)
        assert whole.sum(-1).max() <= 127
        errors.append(
            np.sqrt(np.square(alpha - unit * whole).sum((1, 2)) / np.square(alpha).sum((1, 2)))
        )
        largest.append(whole.max())
    assert (errors[0] <= 0.2).all() and (errors[1] <= 0.02).all()
    assert errors[2].max() < errors[1].max() < errors[0].max()
    assert largest[0] < largest[1] < largest[2]
    single = np.float32([[[0.0, 0.3]], [[0.7, 0.0]]])
    np.testing.assert_allclose(integer_units(single), [0.3, 0.7], rtol=1e-6)


def test_invariant_7_a_deleted_base_takes_its_share_of_the_weights_along():
    model = tq.quantize(dense_net(), [tq.Rule(".*", tq.MultiBit(bases=3))])
    kernel, variable = kernels(model)[0]
    before = np.asarray(kernel.quantized(variable))
    alpha, basis = (np.asarray(kernel.state[name]).copy() for name in ("alpha", "basis"))
    chosen = np.zeros(alpha.shape, bool)
    chosen[2, 0, 1] = True
    delete(kernel, chosen)
    share = alpha[2, 0, 1] * basis[2, 0, 1]
    after = np.asarray(kernel.quantized(variable))
    np.testing.assert_allclose(after[:, 2], before[:, 2] - share, atol=1e-6)
    np.testing.assert_array_equal(np.delete(after, 2, 1), np.delete(before, 2, 1))


@pytest.mark.parametrize(
    "weights,bits,alphas,expected",
    [(430_500, 0.40, 300, 22.7e3), (14_022_016, 0.66, 33_000, 1.29e6)],
    ids=["lenet5", "vgg_small"],
)
def test_invariant_10_storage_formula(weights, bits, alphas, expected):
    assert storage_bytes(weights, bits, alphas) == pytest.approx(expected, rel=2e-3)
    assert (
        storage_bytes(weights, bits, alphas, groups=1000) - storage_bytes(weights, bits, alphas)
        == 375.0
    )


def test_sketched_network_is_near_the_float_one_and_survives_saving(tmp_path):
    net = conv_net()
    model = tq.quantize(net, [tq.Rule(".*", tq.MultiBit(bases=6))], activations=None)
    x = normal(8, 8, 8, 2)
    np.testing.assert_allclose(model(x), net(x), atol=0.05 * np.abs(net(x)).max())
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for (kernel, _), (same, _) in zip(kernels(model), kernels(loaded), strict=True):
        assert kernel.quantizer == same.quantizer
        for name, dtype in (
            ("basis", "int8"),
            ("valid", "bool"),
            ("alpha", "float32"),
            ("unit", "float32"),
        ):
            assert same.state[name].dtype == dtype
            np.testing.assert_array_equal(kernel.state[name], same.state[name])


def test_average_bits_weigh_by_weights():
    model = tq.quantize(
        dense_net(), [tq.Rule("body", tq.MultiBit(bases=3)), tq.Rule("head", tq.MultiBit(bases=6))]
    )
    assert tq.average_bits(model) == {
        "body/kernel": 3.0,
        "head/kernel": 6.0,
        "total": (96 * 3 + 16 * 6) / 112,
    }
    with pytest.raises(ValueError, match=r"no layer has multi-bit weights"):
        tq.average_bits(tq.quantize(dense_net()))


def test_project_tells_the_largest_change_and_strip_gives_the_same_weights():
    model = tq.quantize(
        dense_net(), [tq.Rule("body", tq.MultiBit(bases=4)), tq.Rule("head", tq.Uniform(8))]
    )
    (kernel, variable), _ = kernels(model)
    with pytest.raises(
        ValueError, match=r"body/kernel: its levels lie on no integer grid yet. Call tfqreg.project"
    ):
        model.get_layer("body").encode()
    before = np.asarray(kernel.quantized(variable))
    with projected(model):
        inside = np.asarray(kernel.quantized(variable))
    np.testing.assert_array_equal(kernel.quantized(variable), before)
    changes = tq.project(model)
    after = np.asarray(kernel.quantized(variable))
    np.testing.assert_array_equal(after, inside)
    assert (
        changes == {"body/kernel": pytest.approx(np.abs(after - before).max())}
        and 0 < changes["body/kernel"] < 0.1
    )
    np.testing.assert_array_equal(tq.strip(model).get_layer("body").kernel, after)
    np.testing.assert_array_equal(variable, after)


@pytest.mark.parametrize(
    "arguments,match",
    [
        ({"structure": "rows"}, "one of auto, channelwise"),
        ({"bases": 9}, "bases"),
        ({"bases": 0}, "bases"),
        ({"subchannels": 2}, "for structure="),
        ({"structure": "subchannel", "subchannels": 0}, "positive"),
        ({"tolerance": 0.0}, "between 0 and 1"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        tq.MultiBit(**arguments)


@pytest.mark.parametrize(
    "quantizer,match",
    [
        (
            tq.MultiBit("subchannel", 4),
            r"body/kernel: an output channel of 6 weights .* a divisor of 6",
        ),
        (tq.MultiBit("kernelwise"), r"body/kernel: a group would hold a single weight"),
    ],
)
def test_groups_that_do_not_fit_name_the_layer(quantizer, match):
    with pytest.raises(ValueError, match=match):
        tq.quantize(dense_net(), [tq.Rule("body", quantizer), tq.Rule("head", tq.Uniform())])


def test_constrained_and_pruned_kernels_are_refused():
    layer = keras.layers.Dense(2, kernel_constraint="max_norm", name="head")
    with pytest.raises(ValueError, match=r"head/kernel: multi-bit weights take no constraint"):
        tq.Quantized(layer, tq.MultiBit())(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="MultiBit has no level at 0"):
        tq.quantize(dense_net(), [tq.Rule(".*", tq.MultiBit(), prune=tq.PartialL2(0.5))])
