"""`quantize`, `strip`, `calibrate` and `Rule`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfqreg as tq
from tests.tiny_nets import conv_net, dense_net, kernels, larger_half, quantizer_names, regression

BITS_8 = [tq.Rule(".*", weights=tq.Uniform(8, per_channel=True))]


def images(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 8, 8, 2)).astype(np.float32)


def bits_of(model: keras.Model) -> dict[str, int]:
    return {
        x.name: x.quantizer.bits for x in model._flatten_layers() if isinstance(x, tq.Quantized)
    }


def assert_close(a, b, tolerance: float) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert np.sqrt(np.mean((a - b) ** 2)) <= tolerance * np.std(a)


# Models to quantize.


def sequential():
    keras.utils.set_random_seed(0)
    stack = [
        keras.Input((8, 8, 2)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(3),
    ]
    return keras.Sequential(stack, name="stack")


def nested():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 4))
    block = keras.Model(
        x, x + layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x), name="block"
    )
    head = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="conv")], name="head")
    inputs = keras.Input((8, 8, 2))
    y = block(layers.Conv2D(4, 1, name="stem")(inputs))
    return keras.Model(inputs, head(layers.GlobalAveragePooling2D()(y)), name="nested")


def shared_layers():
    keras.utils.set_random_seed(0)
    conv, relu = layers.Conv2D(2, 3, padding="same", name="conv"), layers.ReLU(name="relu")
    inputs = keras.Input((8, 8, 2))
    x = relu(conv(inputs))
    return keras.Model(inputs, relu(conv(x)) + x, name="shared")


def operators():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(2, 3, padding="same")(inputs)
    y = ops.relu(x + layers.Conv2D(2, 1)(inputs)) - 0.5 * x
    return keras.Model(inputs, ops.concatenate([y, inputs], axis=-1), name="operators")


def several_inputs_and_outputs():
    keras.utils.set_random_seed(0)
    inputs = {
        "image": keras.Input((8, 8, 2), name="image"),
        "more": keras.Input((8, 8, 2), name="more"),
    }
    x = layers.Add()(
        [
            layers.Conv2D(2, 1, name="a")(inputs["image"]),
            layers.Conv2D(2, 1, name="b")(inputs["more"]),
        ]
    )
    outputs = {"map": x, "class": layers.Dense(2, name="c")(layers.GlobalAveragePooling2D()(x))}
    return keras.Model(inputs, outputs, name="several")


def separable():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 2))
    x = layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, activation="tanh", name="sep")(
        inputs
    )
    return keras.Model(
        inputs, layers.Conv2DTranspose(3, 2, strides=2, name="up")(x), name="separable"
    )


MODELS = [
    sequential,
    nested,
    shared_layers,
    operators,
    several_inputs_and_outputs,
    separable,
    conv_net,
]


def data_for(model):
    return (
        {name: images() for name in model.input}
        if isinstance(getattr(model, "input", None), dict)
        else images()
    )


def compare(f, a, b):
    keras.tree.map_structure(f, a, b)


@pytest.mark.parametrize("make", MODELS)
def test_8_bits_stay_close_to_the_float_model(make):
    model = make()
    x = data_for(model)
    before = [np.array(v) for v in model.weights]
    q = tq.quantize(model, BITS_8)
    assert q.name == model.name
    assert not {id(v) for v in q.variables} & {id(v) for v in model.variables}
    compare(
        lambda a, b: assert_close(a, b, 0.03), model(x), q(x)
    )  # activations not calibrated: float
    tq.calibrate(q, x, verbose=0)
    assert not np.array_equal(*(keras.tree.flatten(m(x))[0] for m in (model, q)))
    compare(lambda a, b: assert_close(a, b, 0.06), model(x), q(x))
    for old, v in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, v)


@pytest.mark.parametrize("make", MODELS)
def test_strip_equals_the_quantized_model_without_activation_quantizers(make):
    model = make()
    x = data_for(model)
    rules = [tq.Rule(".*", weights=tq.Uniform(3, per_channel=True), prune=tq.PartialL2(0.5))]
    q = tq.quantize(model, rules, activations=None)
    for kernel, variable in kernels(q):
        kernel.freeze(variable, larger_half(variable))
    plain = tq.strip(q)
    assert not any(type(layer).__module__.startswith("tfqreg") for layer in plain._flatten_layers())
    compare(np.testing.assert_array_equal, plain(x), q(x))
    for wrapper in (layer for layer in q._flatten_layers() if isinstance(layer, tq.Quantized)):
        for kernel, variable in wrapper.kernel_pairs():
            assert np.any(np.asarray(variable) != np.asarray(kernel.quantized(variable)))


def test_strip_drops_activation_quantizers():
    q = tq.calibrate(tq.quantize(conv_net()), images(), verbose=0)
    plain = tq.strip(q)
    assert quantizer_names(plain) == [] and plain.count_params() == conv_net().count_params()
    assert_close(conv_net()(images()), plain(images()), 0.03)


def test_strip_then_quantize_gives_the_same_codes():
    q = tq.quantize(dense_net(), [tq.Rule(".*", weights=tq.Uniform(4))])
    again = tq.quantize(tq.strip(q), [tq.Rule(".*", weights=tq.Uniform(4))])
    for (a, w), (b, v) in zip(kernels(q), kernels(again), strict=True):
        np.testing.assert_array_equal(a.encode(w)[0], b.encode(v)[0])


@pytest.mark.parametrize("make", [sequential, nested, several_inputs_and_outputs])
def test_quantized_models_train_and_reload(make, tmp_path):
    q = tq.quantize(make(), [tq.Rule(".*", weights=tq.Uniform(4), regularizer=tq.MSQE())])
    x = data_for(q)
    targets = keras.tree.map_structure(lambda t: np.zeros((16, *t.shape[1:]), np.float32), q.output)
    losses = keras.tree.map_structure(lambda t: "mse", q.output)
    q.compile(keras.optimizers.Adam(0.01), losses, run_eagerly=True)
    before = [np.array(v) for _, v in kernels(q)]
    q.fit(x, targets, batch_size=8, verbose=0, callbacks=tq.callbacks_for(q))
    assert not any(np.array_equal(b, v) for b, (_, v) in zip(before, kernels(q), strict=True))
    q.save(tmp_path / "m.keras")
    compare(np.testing.assert_array_equal, keras.models.load_model(tmp_path / "m.keras")(x), q(x))


def test_float_weights_statistics_and_flags_are_copied():
    model = conv_net()
    norm = model.get_layer("stem_norm")
    norm.moving_mean.assign([1, 2, 3, 4])
    norm.trainable = False
    q = tq.quantize(model)
    np.testing.assert_array_equal(q.get_layer("stem_norm").moving_mean, [1, 2, 3, 4])
    assert not q.get_layer("stem_norm").trainable
    np.testing.assert_array_equal(q.get_layer("stem").layer.kernel, model.get_layer("stem").kernel)


def test_a_separable_convolution_becomes_its_two():
    q = tq.quantize(
        separable(),
        [tq.Rule("sep_depthwise", tq.Uniform(5)), tq.Rule("sep", tq.Uniform(3)), *BITS_8],
    )
    assert bits_of(q) == {"sep_depthwise": 5, "sep_pointwise": 3, "up": 8}
    assert isinstance(q.get_layer("sep_pointwise_tanh"), layers.Activation)


def test_a_separable_convolution_of_rows_becomes_its_two():
    x = keras.Input((9, 3))
    model = keras.Model(
        x, layers.SeparableConv1D(4, 3, 2, "same", depth_multiplier=2, name="sep")(x)
    )
    model.get_layer("sep").bias.assign([1, 2, 3, 4])
    q = tq.quantize(model, activations=None)
    assert [
        type(q.get_layer(f"sep_{part}").layer).__name__ for part in ("depthwise", "pointwise")
    ] == [
        "DepthwiseConv1D",
        "Conv1D",
    ]
    data = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    np.testing.assert_allclose(q(data), model(data), atol=0.05)


def test_what_a_separable_convolution_brings_is_kept():
    inputs = keras.Input((8, 8, 2))
    l2, l1, bias = (
        keras.regularizers.L2(0.5),
        keras.regularizers.L1(0.25),
        keras.regularizers.L2(0.125),
    )
    sep = layers.SeparableConv2D(
        4, 3, depthwise_regularizer=l2, pointwise_regularizer=l1, bias_regularizer=bias
    )
    model = keras.Model(inputs, sep(inputs))
    sep.bias.assign([1, 2, 3, 4])
    q = tq.quantize(model, [tq.Rule(".*", tq.Uniform(8, scale_from="task"))])
    assert float(sum(q.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-5)
    sep.trainable = False
    assert len(tq.quantize(model, activations=None).trainable_variables) == 0


def test_default_rules_are_8_bits_a_channel():
    assert {x.quantizer for x in tq.quantize(conv_net()).layers if isinstance(x, tq.Quantized)} == {
        tq.Uniform(8, per_channel=True)
    }


# Rules.


def test_the_first_matching_rule_decides():
    rules = [
        tq.Rule("head", tq.Uniform(6)),
        tq.Rule("^block/conv$", tq.Uniform(3)),
        tq.Rule(".*", tq.Uniform(2)),
    ]
    q = tq.quantize(nested(), rules)
    assert {
        x.quantizer.bits
        for x in q.get_layer("head")._flatten_layers()
        if isinstance(x, tq.Quantized)
    } == {6}
    assert q.get_layer("block").get_layer("conv").quantizer.bits == 3
    assert q.get_layer("stem").quantizer.bits == 2
    q = tq.quantize(nested(), [tq.Rule(".*", tq.Uniform(2)), tq.Rule("head", tq.Uniform(6))])
    assert set(bits_of(q).values()) == {2}


def test_matching_is_a_search_in_the_path():
    rule = tq.Rule(r"block_\d+/conv")
    assert rule.matches("net/block_3/conv_2") and not rule.matches("block_x/conv")


def test_skip():
    q = tq.quantize(conv_net(), [tq.Rule("stem|head", skip=True), *BITS_8])
    assert set(bits_of(q)) == {"depthwise", "pointwise"}
    assert isinstance(q.get_layer("head"), layers.Dense)
    q = tq.quantize(conv_net(), [tq.Rule(".*", skip=True)])
    assert bits_of(q) == {} and quantizer_names(q) == []
    np.testing.assert_array_equal(q(images()), conv_net()(images()))


def test_a_rule_that_matches_nothing():
    rules = [tq.Rule("steam", tq.Uniform(4)), *BITS_8]
    with pytest.raises(
        ValueError,
        match=r"Rule 'steam' matches no layer. .* Received: a model with the layers: stem,",
    ):
        tq.quantize(conv_net(), rules)
    rules[0] = tq.Rule("steam", tq.Uniform(4), optional=True)
    assert bits_of(tq.quantize(conv_net(), rules))["stem"] == 8


def test_a_kernel_that_no_rule_matches():
    with pytest.raises(
        ValueError,
        match=r"No rule matches depthwise, head, pointwise. .* Received: rules=\['stem'\]",
    ):
        tq.quantize(conv_net(), [tq.Rule("stem")])
    with pytest.raises(ValueError, match="No rule matches"):
        tq.quantize(conv_net(), [])


def test_a_pattern_that_is_no_regular_expression():
    with pytest.raises(
        ValueError, match=r"Rule: the pattern is no regular expression: .* Received: '\*\.'"
    ):
        tq.Rule("*.")


# What is refused.


def one_conv() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(4, 3, name="conv")])


RULES = r"`rules` must be a list of tfqreg\.Rule\. Write rules=\[tfqreg\.Rule"
SLIPS = {
    "a layer": (lambda: tq.quantize(layers.Conv2D(4, 3)), "`model` must be .* tfqreg.Quantized"),
    "layers": (lambda: tq.quantize([layers.Conv2D(4, 3)]), "`model` must be .* model of .*list"),
    "a path": (lambda: tq.quantize("a.keras"), r"`model` must be .*load_model\('a.keras'\)"),
    "one rule": (lambda: tq.quantize(one_conv(), tq.Rule(".*")), RULES),
    "a dict of rules": (lambda: tq.quantize(one_conv(), {"conv": 4}), RULES),
    "a pattern": (lambda: tq.quantize(one_conv(), [".*"]), RULES),
    "bits as text": (
        lambda: tq.quantize(one_conv(), activations="8"),
        "`activations` must be a number of bits.* Received: activations='8'",
    ),
    "rule, weights": (lambda: tq.Rule(".*", weights=4), "Rule: `weights` must be a quantizer"),
    "rule, regularizer": (
        lambda: tq.Rule(".*", regularizer=keras.regularizers.L2()),
        "Rule: `regularizer` must be a penalty",
    ),
    "rule, prune": (lambda: tq.Rule(".*", prune=0.5), "Rule: `prune` must be a pruning"),
    "rule, activations": (lambda: tq.Rule(".*", activations=4.0), "Rule: `activations` must be"),
    "rule, pattern": (lambda: tq.Rule(4), "Rule: the pattern is no regular expression"),
    "a tensor": (
        lambda: tq.Quantized(layers.Conv2D(4, 3)(keras.Input((8, 8, 2)))),
        r"Quantized: `layer` must be a Keras layer.* tfqreg\.Quantized\(conv\)\(x\)",
    ),
    "weights": (
        lambda: tq.Quantized(layers.Dense(2, name="d"), weights=4),
        r"d: `weights` must be a quantizer, such as tfqreg\.Uniform\(4\)\. Received: weights=4",
    ),
    "twice": (
        lambda: tq.Quantized(tq.Quantized(layers.Dense(2, name="d"))),
        "d: the layer is quantized already",
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips_name_the_argument(name):
    function, message = SLIPS[name]
    with pytest.raises(tq.errors.ModelError, match=message):
        function()


def behind_norm(*between, **options) -> keras.Model:
    steps = [layers.Conv2D(4, 3, name="conv", **options), *between]
    norm = layers.BatchNormalization(name="norm")
    return keras.Sequential([keras.Input((8, 8, 2)), *steps, norm, layers.ReLU()])


@pytest.mark.parametrize("between", [[], [layers.Dropout(0.5)]])
def test_one_scale_behind_a_norm_is_refused_by_name(between):
    one = [tq.Rule(".*", weights=tq.Uniform(8, per_channel=False))]
    with pytest.raises(ValueError, match=r"^conv: norm folds into its kernel.*per_channel=False"):
        tq.quantize(behind_norm(*between), one)
    tq.quantize(behind_norm(*between), [tq.Rule(".*", weights=tq.Uniform(8))])
    tq.quantize(behind_norm(activation="relu"), one)
    tq.quantize(one_conv(), one)


def test_constraints_of_separable_convolutions_are_kept():
    constraints = {
        f"{name}_constraint": keras.constraints.MaxNorm(0.01 * i)
        for i, name in enumerate(("depthwise", "pointwise", "bias"), 1)
    }
    layer = layers.SeparableConv2D(4, 3, name="sep", **constraints)
    q = tq.quantize(keras.Sequential([keras.Input((8, 8, 2)), layer, layers.Flatten()]))
    q.compile("sgd", "mse")
    x = images()
    q.fit(x, np.ones((16, 144), np.float32), epochs=1, verbose=0)
    for name, limit in (("sep_depthwise", 0.01), ("sep_pointwise", 0.02)):
        kernel = np.asarray(q.get_layer(name).layer.kernel)
        assert np.sqrt(np.sum(kernel**2, axis=0)).max() <= limit * 1.001
    bias = np.asarray(q.get_layer("sep_pointwise").layer.bias)
    assert 0 < np.linalg.norm(bias) <= 0.03 * 1.001


def test_kernels_of_nan_and_zeros():
    model = nested()
    model.get_layer("block").get_layer("conv").kernel.assign(np.full((3, 3, 4, 4), np.nan))
    with pytest.raises(
        ValueError, match=r"block/conv/kernel: the kernel holds NaN or infinity. .* 144 of 144"
    ):
        tq.quantize(model)
    model.get_layer("block").get_layer("conv").kernel.assign(np.zeros((3, 3, 4, 4)))
    with pytest.raises(ValueError, match=r"block/conv/kernel: the kernel is all zeros, and Uni"):
        tq.quantize(model, [tq.Rule(".*", tq.Uniform(1))])
    with pytest.warns(UserWarning, match="every weight is 0"):
        tq.quantize(model)
    tq.quantize(model, [tq.Rule("block/conv", skip=True), *BITS_8])


def test_unknown_input_shape():
    with pytest.raises(
        ValueError, match=r"open: the input shape is unknown. Start the Sequential with keras.Input"
    ):
        tq.quantize(keras.Sequential([layers.Dense(3)], name="open"))


def test_a_subclassed_model_is_told_to_wrap_by_hand():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.fc = layers.Dense(2)

        def call(self, x):
            return self.fc(x)

    for function in (tq.quantize, tq.strip):
        with pytest.raises(
            TypeError, match=r"mine: Mine is a subclassed model.*self.conv = tfqreg.Quantized\("
        ):
            function(Mine())


def test_a_model_that_is_quantized_already():
    q = tq.quantize(dense_net())
    with pytest.raises(ValueError, match=r"dense_net: the model is quantized already. .*strip"):
        tq.quantize(q)
    tq.quantize(tq.strip(q))


def test_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = dense_net()
        match = "quantization is simulated in float32.* Received: .*mixed_bfloat16"
        with pytest.raises(ValueError, match=rf"features_quantizer: {match}"):
            tq.quantize(model)
    finally:
        keras.config.set_dtype_policy(policy)
    with pytest.raises(ValueError, match=rf"body: {match}"):
        tq.quantize(model, activations=None)


# Calibration.


def grids(model) -> dict[str, tuple[float, int]]:
    return {
        x.name: x.encode() for x in model._flatten_layers() if isinstance(x, tq.QuantizedActivation)
    }


@pytest.fixture(scope="module")
def calibrated() -> dict:
    return grids(tq.calibrate(tq.quantize(conv_net()), images(64), correct_bias=False, verbose=0))


@pytest.mark.parametrize(
    "data",
    [
        tf.constant(images(64)),
        [images(64)[:40], images(64)[40:]],
        ((images(64)[i : i + 16], np.zeros(16)) for i in (0, 16, 32, 48)),
        tf.data.Dataset.from_tensor_slices((images(64), np.zeros(64))).batch(32),
    ],
    ids=["tensor", "batches", "generator with labels", "dataset"],
)
def test_calibration_data(calibrated, data):
    # The correction is averaged over the batches, and so depends a little on their size.
    found = grids(tq.calibrate(tq.quantize(conv_net()), data, correct_bias=False, verbose=0))
    assert found.keys() == calibrated.keys()
    for name, (scale, low) in found.items():
        assert low == calibrated[name][1]
        assert scale == pytest.approx(calibrated[name][0], rel=1e-6)


def test_calibration_by_hand():
    q = tq.quantize(keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, name="fc")]))
    x = np.random.default_rng(0).choice(np.float32([-1.0, 0.5, 0.25]), (50, 4)) * 2.0
    tq.calibrate(q, x, verbose=0)
    scale, low = grids(q)["x_quantizer"]
    codes = np.unique(x) / scale
    np.testing.assert_allclose(codes, codes.round(), atol=1e-3)
    assert low * scale <= -2.0


def test_calibration_of_several_inputs():
    model = several_inputs_and_outputs()
    x = data_for(model)
    whole = grids(tq.calibrate(tq.quantize(model), x, verbose=0))
    parts = tf.data.Dataset.from_tensor_slices(x).batch(4)
    assert grids(tq.calibrate(tq.quantize(model), parts, verbose=0)).keys() == whole.keys()


def test_calibration_shows_progress_where_asked(capsys):
    tq.calibrate(tq.quantize(dense_net()), regression()[0])
    assert "batch" in capsys.readouterr().out
    tq.calibrate(tq.quantize(dense_net()), regression()[0], verbose=0)
    assert capsys.readouterr().out == ""


def test_calibration_fits_the_weights_too():
    q = tq.quantize(dense_net())
    for kernel, _ in kernels(q):
        kernel.state["log2_scale"].assign(kernel.state["log2_scale"] + 2)
    tq.calibrate(q, regression()[0], verbose=0)
    for kernel, variable in kernels(q):
        np.testing.assert_allclose(
            kernel.state["log2_scale"], kernel.fitted(variable)["log2_scale"]
        )


def test_what_calibration_refuses():
    q = tq.quantize(dense_net())
    with pytest.raises(
        ValueError, match=r"_quantizer: calibration saw no data. .* Received: 0 of 0 values"
    ):
        tq.calibrate(q, [], verbose=0)
    x = np.zeros((70, 6), np.float32)
    x[66, 1:] = np.inf
    with pytest.raises(ValueError, match=r"hold NaN or infinity\..* 1 of 6 samples: index 66$"):
        tq.calibrate(q, x, verbose=0)
    with pytest.raises(ValueError, match=r"index 0, 1, 2, 3, 4, \.\.\.$"):
        tq.calibrate(q, x * np.nan, verbose=0)
    with pytest.raises(ValueError, match="dense_net: no activation quantizers to calibrate"):
        tq.calibrate(dense_net(), regression()[0], verbose=0)


def test_calibration_refuses_what_overflows_inside():
    q = tq.quantize(dense_net())
    q.get_layer("body").layer.bias.assign([np.inf] * 16)
    with pytest.raises(ValueError, match=r"_quantizer: calibration saw NaN or infinity\. Look at"):
        tq.calibrate(q, regression()[0], verbose=0, correct_bias=False)


@pytest.mark.parametrize(
    "data, said",
    [
        ([1, 2, 3], r"features: inputs are of the shape \(batch, 6\)\. Received: shape \(\)"),
        ("x.npy", r"features: inputs are of the shape \(batch, 6\)\. Received: shape \(\)"),
        ([None], r"features: inputs are of the shape \(batch, 6\)"),
        (None, "data: it is an array, or gives batches and comes to an end.* Received: NoneType"),
        (7, "data: it is an array, or gives batches and comes to an end.* Received: int"),
    ],
)
def test_calibration_names_what_it_takes(data, said):
    with pytest.raises(tq.errors.ModelError, match=said):
        tq.calibrate(tq.quantize(dense_net()), data, verbose=0)


def test_calibration_names_the_shapes_it_takes():
    with pytest.raises(tq.errors.ModelError) as caught:
        tq.calibrate(tq.quantize(dense_net()), np.zeros((4, 3), np.float32), verbose=0)
    assert caught.value.rule == "inputs are of the shape (batch, 6)"
    assert caught.value.received == "shape (4, 3)"


def test_a_failed_calibration_leaves_the_model_whole():
    q = tq.quantize(dense_net())
    with pytest.raises(ValueError, match="shape"):
        tq.calibrate(q, np.zeros((4, 3), np.float32), verbose=0)
    x = regression()[0]
    tq.calibrate(q, x, verbose=0)
    assert not np.array_equal(q(x), dense_net()(x))


# What users of other tools ran into.


def test_issue_like_tfmot_957_nested_model(tmp_path):
    """quantize_model refused a model within a model."""
    q = tq.calibrate(tq.quantize(nested()), images(), verbose=0)
    assert sorted(bits_of(q)) == ["conv", "stem"]  # two of the name conv, in two models
    assert len(kernels(q)) == 3
    q.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "m.keras")(images()), q(images())
    )


def test_issue_like_tfmot_638_shared_layer():
    """A layer called twice was wrapped twice, or refused."""
    q = tq.quantize(shared_layers())
    assert len(kernels(q)) == 1
    q.compile("sgd", "mse")
    assert len(q.losses) == 1


def test_issue_like_tfmot_426_save_and_load(tmp_path):
    """A quantized model could not be loaded without a scope of custom objects, nor trained on."""
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(4), tq.MSQE(), tq.PartialL2(0.5))])
    q.compile("adam", "mse")
    x, y = regression()
    q.fit(x, y, verbose=0)
    q.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), q(x))
    loaded.fit(x, y, verbose=0)
    q.save_weights(tmp_path / "m.weights.h5")
    other = tq.quantize(dense_net(1), [tq.Rule(".*", tq.Uniform(4), tq.MSQE(), tq.PartialL2(0.5))])
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other(x), q(x))


def test_issue_like_tfmot_1139_operators_without_a_quantizer():
    """Slicing and other operations outside the known layers were refused."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(2, 3, padding="same")(inputs)[:, ::2, 1:, :]
    q = tq.quantize(keras.Model(inputs, layers.Conv2D(2, 1)(ops.transpose(x, (0, 2, 1, 3)))))
    assert q(images()).shape == (16, 7, 4, 2)


def test_issue_like_tfmot_362_conv1d():
    inputs = keras.Input((8, 2))
    assert len(kernels(tq.quantize(keras.Model(inputs, layers.Conv1D(2, 3)(inputs))))) == 1


def test_issue_like_tfmot_958_strip():
    """There was no way back to a plain model."""
    q = tq.quantize(conv_net())
    assert [type(x) for x in tq.strip(q).layers] == [type(x) for x in conv_net().layers]


def test_issue_like_tfmot_979_pruned_zeros_stay_zero_under_quantization():
    q = tq.quantize(dense_net(), [tq.Rule(".*", tq.Uniform(8), prune=tq.PartialL2(0.5))])
    for kernel, variable in kernels(q):
        kernel.freeze(variable, larger_half(variable))
    masks = [np.array(kernel.mask) for kernel, _ in kernels(q)]
    q.compile("adam", "mse")
    q.fit(*regression(), epochs=2, verbose=0)
    for mask, (kernel, variable) in zip(masks, kernels(q), strict=True):
        assert not np.any(kernel.encode(variable)[0][~mask])


def test_issue_like_tfmot_574_4_bits_are_levels_of_the_4_bit_grid():
    q = tq.quantize(conv_net(), [tq.Rule(".*", tq.Uniform(4))])
    for kernel, variable in kernels(q):
        codes, params = kernel.encode(variable)
        assert set(np.unique(codes)) <= set(range(-7, 8)) and np.abs(codes).max() == 7
        np.testing.assert_array_equal(codes * params["scale"], kernel.quantized(variable))
