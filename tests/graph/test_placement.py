"""Where activation quantizers stand."""

import keras
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import conv_net, quantizer_names
from tfqreg.graph import placement
from tfqreg.graph.flat import flatten
from tfqreg.graph.roles import Role, role


def image():
    return keras.Input((8, 8, 3), name="in")


def conv(name="conv", **arguments):
    return layers.Conv2D(4, 3, padding="same", name=name, **arguments)


def names(inputs, outputs, rules=None) -> list[str]:
    return quantizer_names(tq.quantize(keras.Model(inputs, outputs), rules))


def quantizers(model) -> dict[str, tq.QuantizedActivation]:
    return {x.name: x for x in model._flatten_layers() if isinstance(x, tq.QuantizedActivation)}


def consumers(q, name) -> set[str]:
    """The layers that the output of a quantizer goes to."""
    return {node.operation.name for node in q.get_layer(name)._outbound_nodes}


def source(q, name) -> str:
    """The layer whose output a quantizer rounds."""
    return q.get_layer(name)._inbound_nodes[0].input_tensors[0]._keras_history.operation.name


def test_every_rule_decides_on_some_tensor():
    x = inputs = image()
    x = layers.BatchNormalization()(conv("a")(layers.Rescaling(1 / 255)(x)))
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    a, b = conv("b", activation="relu")(x), conv("c")(layers.Activation("softmax")(x))
    total = layers.Add()([a, b])
    outputs = [layers.Dense(2)(layers.Flatten()(total)), keras.ops.cast(total, "int32")]
    graph = flatten(keras.Model(inputs, outputs))
    found = {placement.decide(edge, set())[0] for edge in placement.edges_of(graph)}
    assert found == set(placement.RULES)
    assert placement.RULES[-1] is placement.is_held


def test_residual_net():
    q = tq.quantize(conv_net())
    assert quantizer_names(q) == [
        "depthwise_quantizer",
        "head_quantizer",
        "image_quantizer",
        "mean_quantizer",
        "pointwise_quantizer",
        "pool_quantizer",  # after the maximum, not before
        "residual_quantizer",
    ]
    assert consumers(q, "pool_quantizer") == {"depthwise", "residual"}
    assert consumers(q, "residual_quantizer") == {"mean"}


def test_nothing_between_convolution_norm_and_relu():
    x = inputs = image()
    for i, relu in enumerate(
        [layers.ReLU(name="relu0"), layers.Activation("relu", name="relu1"), None]
    ):
        x = layers.BatchNormalization(name=f"norm{i}")(conv(f"conv{i}")(x))
        x = relu(x) if relu else keras.ops.relu6(x)
    *rest, last = names(inputs, x)
    assert rest == ["in_quantizer", "relu0_quantizer", "relu1_quantizer"]
    assert last.startswith("relu6")


def test_activation_inside_the_layer():
    x = conv(activation="relu")(inputs := image())
    assert names(inputs, layers.Dense(2, name="fc")(layers.Flatten()(x))) == [
        "conv_quantizer",
        "fc_quantizer",
        "in_quantizer",
    ]


def test_a_tensor_with_two_readers_is_rounded_even_before_a_relu():
    x = conv("a")(inputs := image())
    y = layers.Add(name="add")([layers.ReLU(name="relu")(x), x])
    assert names(inputs, y) == ["a_quantizer", "add_quantizer", "in_quantizer", "relu_quantizer"]


def test_relu_after_an_addition():
    inputs = image()
    y = layers.ReLU(name="relu")(layers.Add(name="add")([conv("a")(inputs), conv("b")(inputs)]))
    assert names(inputs, y) == ["a_quantizer", "b_quantizer", "in_quantizer", "relu_quantizer"]


def test_operators():
    inputs = image()
    q = tq.quantize(keras.Model(inputs, conv("c")(conv("a")(inputs) + conv("b")(inputs))))
    add = [name for name in quantizer_names(q) if name.startswith("add")]
    assert len(add) == 1 and len(quantizer_names(q)) == 5


def test_concatenation_shares_one_grid():
    inputs = image()
    parts = [conv("a", activation="relu")(inputs), conv("b")(inputs)]
    q = tq.quantize(keras.Model(inputs, conv("c")(layers.Concatenate(name="concat")(parts))))
    assert quantizer_names(q) == ["a_quantizer", "c_quantizer", "in_quantizer"]
    grid = q.get_layer("a_quantizer")
    assert len(grid._inbound_nodes) == 2 and grid.signed is True  # one of the two may be negative
    assert consumers(q, "a_quantizer") == {"concat"}


def test_shared_grid_reaches_through_pools_and_reshapes():
    inputs = image()
    a = layers.AveragePooling2D(2, name="pool")(conv("a", activation="relu")(inputs))
    b = layers.MaxPooling2D()(conv("b", activation="relu")(inputs))
    concat = layers.Concatenate()([layers.Flatten()(a), layers.Flatten()(b)])
    q = tq.quantize(keras.Model(inputs, layers.Dense(2, name="fc")(concat)))
    shared = [x for x in quantizers(q).values() if len(x._inbound_nodes) > 1]
    assert len(shared) == 1 and shared[0].signed is False
    assert {
        node.input_tensors[0]._keras_history.operation.name for node in shared[0]._inbound_nodes
    } >= {"a"}


def test_after_a_maximum_pool():
    x = layers.MaxPooling2D(name="pool")(conv(activation="relu")(inputs := image()))
    q = tq.quantize(keras.Model(inputs, conv("b")(x)))
    assert source(q, "pool_quantizer") == "pool"
    assert "conv_quantizer" not in quantizer_names(q)
    assert q.get_layer("pool_quantizer").signed is False


def test_before_a_maximum_pool_that_has_company():
    x = conv(activation="relu")(inputs := image())
    q = tq.quantize(keras.Model(inputs, [layers.MaxPooling2D(name="pool")(x), conv("b")(x)]))
    assert quantizer_names(q) == ["b_quantizer", "conv_quantizer", "in_quantizer"]
    assert (
        len(q.get_layer("conv_quantizer")._inbound_nodes) == 1
        and source(q, "conv_quantizer") == "conv"
    )


def test_dropout_and_flatten_keep_the_grid():
    x = layers.Dropout(0.5)(conv(activation="relu")(inputs := image()))
    outputs = layers.Dense(2, name="fc")(layers.Flatten()(x))
    assert names(inputs, outputs) == ["conv_quantizer", "fc_quantizer", "in_quantizer"]


def test_softmax_at_the_end_is_left_alone():
    x = layers.Flatten()(inputs := image())
    q = tq.quantize(keras.Model(inputs, layers.Dense(3, activation="softmax", name="fc")(x)))
    assert quantizer_names(q) == ["fc_quantizer", "in_quantizer"]
    assert source(q, "fc_quantizer") == "fc" and q.layers[-1].name == "fc_softmax"


def test_a_skipped_layer_reads_what_integers_give_and_is_rounded_for_integers():
    inputs = image()
    x = conv("b")(layers.Rescaling(1 / 255, name="scaling")(inputs))
    rules = [tq.Rule("scaling", skip=True), tq.Rule(".*")]
    assert names(inputs, x, rules) == ["b_quantizer", "scaling_quantizer"]
    x = conv("c")(conv("b")(conv("a")(inputs)))
    assert names(inputs, x, [tq.Rule("b", skip=True), tq.Rule(".*")]) == [
        "a_quantizer",
        "b_quantizer",
        "c_quantizer",
        "in_quantizer",
    ]


@pytest.mark.parametrize(
    "layer,signed",
    [
        (layers.ReLU(name="x"), False),
        (layers.ReLU(max_value=6, name="x"), False),
        (layers.ReLU(negative_slope=0.5, name="x"), None),
        (layers.LeakyReLU(name="x"), None),
        (layers.Activation("relu6", name="x"), False),
        (layers.Activation("sigmoid", name="x"), False),
        (layers.Activation("tanh", name="x"), True),
        (layers.Activation("hard_sigmoid", name="x"), False),
        (layers.Rescaling(-1.0, name="x"), None),
    ],
)
def test_signs(layer, signed):
    q = tq.quantize(keras.Model(inputs := image(), conv("b")(layer(conv("a")(inputs)))))
    assert q.get_layer("x_quantizer").signed is signed
    assert q.get_layer("b_quantizer").signed is True


def test_the_sign_of_a_sum_with_a_constant_is_left_to_the_data():
    x = layers.ReLU(name="relu")(conv("a")(inputs := image()))
    q = tq.quantize(keras.Model(inputs, conv("b")(x + (-1.0))))
    (name,) = [name for name in quantizer_names(q) if name.startswith("add")]
    assert q.get_layer(name).signed is None
    q = tq.quantize(keras.Model(inputs, conv("c")(x + x)))
    (name,) = [name for name in quantizer_names(q) if name.startswith("add")]
    assert q.get_layer(name).signed is False


def test_integer_inputs_are_not_rounded():
    inputs = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Flatten()(layers.Embedding(9, 4, name="words")(inputs))
    assert names(inputs, layers.Dense(2, name="fc")(x)) == ["fc_quantizer", "words_quantizer"]


def test_an_operation_called_twice():
    relu = layers.ReLU(name="relu")
    x = relu(conv("a")(inputs := image()))
    assert names(inputs, relu(conv("b")(x))) == [
        "in_quantizer",
        "relu_quantizer",
        "relu_quantizer_1",
    ]


def test_a_nested_model_called_twice_has_one_grid_even_where_one_call_is_concatenated():
    x = keras.Input((4,))
    tower = keras.Model(x, layers.Dense(3, activation="relu", name="t")(x), name="tower")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    concat = layers.Concatenate(name="concat")([tower(a), layers.Dense(3, name="c")(b)])
    outputs = layers.Add(name="add")(
        [layers.Dense(2, name="d")(concat), layers.Dense(2, name="e")(tower(b))]
    )
    q = tq.quantize(keras.Model([a, b], outputs))
    tower_grid = [x for x in q.get_layer("tower").layers if isinstance(x, tq.QuantizedActivation)]
    assert len(tower_grid) == 1
    assert tower_grid[0] in q.layers  # the one of c, too
    assert tower_grid[0].signed is True


def test_activations_none():
    assert quantizer_names(tq.quantize(conv_net(), activations=None)) == []


def test_bits_of_activations():
    q = tq.quantize(conv_net(), [tq.Rule("mean", activations=3), tq.Rule(".*")], activations=5)
    assert {x.name: x.bits for x in quantizers(q).values()}["mean_quantizer"] == 3
    assert sorted({x.bits for x in quantizers(q).values()}) == [3, 5]


def test_bits_of_a_layer_whose_norm_and_relu_are_absorbed():
    q = tq.quantize(conv_net(), [tq.Rule("^stem$", activations=3), tq.Rule(".*")])
    assert {name for name, x in quantizers(q).items() if x.bits == 3} == {"pool_quantizer"}


def test_a_shared_grid_takes_the_fewest_bits():
    inputs = image()
    concat = layers.Concatenate()([conv("a")(inputs), conv("b")(inputs)])
    rules = [tq.Rule("a", activations=6), tq.Rule("b", activations=4), tq.Rule(".*")]
    q = tq.quantize(keras.Model(inputs, conv("c")(concat)), rules)
    assert q.get_layer("a_quantizer").bits == 4


def test_roles():
    assert role(layers.Dense(3)) == role(layers.SeparableConv2D(3, 2)) == Role.WEIGHTED_SUM
    assert role(layers.Activation("linear")) == Role.KEEP
    assert role(layers.Activation("softmax")) == role(layers.Activation("tanh")) == Role.FIXED_GRID
    assert role(layers.Rescaling(0.5)) == Role.SCALE
    assert (
        role(layers.Rescaling(0.5, 1))
        == role(layers.Rescaling(-0.5))
        == role(layers.Rescaling([1, 2]))
        == Role.AFFINE
    )
    assert role(layers.ReLU(threshold=1.0)) == role(layers.LSTM(3)) == Role.OTHER


def test_roles_of_what_resizes():
    resize = {
        name: role(layers.UpSampling2D(interpolation=name))
        for name in ("nearest", "bilinear", "bicubic")
    }
    assert resize == {"nearest": Role.KEEP, "bilinear": Role.AVERAGE, "bicubic": Role.OTHER}
    x = keras.Input((4, 4, 2))
    assert role(keras.ops.image.resize(x, (8, 8))._keras_history.operation) == Role.AVERAGE


def test_all_parts_of_a_split_share_its_grid():
    x = keras.Input((4, 4, 4), name="x")
    parts = keras.ops.split(layers.Conv2D(4, 1, name="conv")(x), 2, axis=-1)
    joined = layers.Concatenate()([parts[0], layers.Conv2D(2, 1, name="second")(parts[1])])
    assert names(x, joined) == ["conv_quantizer", "x_quantizer"]


def test_after_a_maximum_of_all_pixels():
    x = keras.Input((4, 4, 4), name="x")
    y = layers.GlobalMaxPooling2D(name="top")(layers.Conv2D(4, 1, name="conv")(x))
    assert names(x, y) == ["top_quantizer", "x_quantizer"]
