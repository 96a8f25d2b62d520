"""The rounds of ALQ: phases, pruning to a target, and what is left when training ends."""

import warnings
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg as tq
from tests.tiny_nets import dense_net, kernels, regression, run_python
from tfqreg.callbacks.alq_phases import phases
from tfqreg.export import export_tflite, verify
from tfqreg.optimizers import Mode
from tfqreg.projection import projected
from tfqreg.pruning.bases import multibit_kernels

X, Y = regression()


def compiled(rate: float = 0.01, bases: int = 4, **options) -> keras.Model:
    model = tq.quantize(dense_net(), [tq.Rule(".*", tq.MultiBit(bases=bases))], activations=None)
    model.compile(tq.ALQ(rate), "mse", **options)
    return model


def fit(model: keras.Model, callback: tq.ALQRounds, epochs: int = 10, *others):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(
            X,
            Y,
            batch_size=8,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[callback, *others],
        )


class Log(keras.callbacks.Callback):
    """What every step ran with."""

    def on_train_begin(self, logs=None):
        self.mode, self.rate, self.bits = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.mode.append(Mode(int(self.model.optimizer.mode)))
        self.rate.append(float(self.model.optimizer.learning_rate))
        self.bits.append(tq.average_bits(self.model)["total"])


def test_phases_follow_each_other_without_gaps():
    found = phases(997, 4, (2, 1, 1), (0.7, 0.8, 0.9), 0.05)
    assert [p.name for p in found] == ["basis", "coordinate", "prune"] * 4 + [
        "ste",
        "coordinate",
        "integer",
    ]
    assert found[0].start == 0 and found[-1].stop == 997
    assert all(a.stop == b.start for a, b in pairwise(found))
    assert [round(p.stop / 997, 2) for p in found[-4:]] == [0.7, 0.8, 0.9, 1.0]
    for first in (found[0], found[3], found[12]):
        assert first.factor(first.start) == 1.0
    assert found[1].last_factor == pytest.approx(0.05) and found[2].factor(
        found[2].start + 3
    ) == pytest.approx(0.05)
    assert found[-1].factor(997) == pytest.approx(0.05)


def test_modes_rates_and_bits_over_a_training():
    model, log = compiled(), Log()
    fit(
        model,
        tq.ALQRounds(bits=1.0, rounds=2, split=(1, 1, 2), rounds_until=0.8, ste_until=0.9),
        10,
        log,
    )
    prune = [Mode.BASIS] * 8 + [Mode.COORDINATE] * 8 + [Mode.PRUNE] * 16
    assert log.mode == prune * 2 + [Mode.STE] * 8 + [Mode.COORDINATE] * 8
    assert log.rate[0] == log.rate[32] == pytest.approx(0.01) and log.rate[16] == pytest.approx(
        0.01 * 0.05
    )
    assert (np.diff(log.bits) <= 0).all() and log.bits[15] == log.bits[0] == pytest.approx(
        4.0, abs=0.5
    )
    # The same share at every pruning step, to a base of the larger kind: 16 of 112 weights.
    start, step = log.bits[0], (1.0 / log.bits[0]) ** (1 / 32)
    for number in range(16):
        assert log.bits[16 + number] == pytest.approx(start * step ** (number + 1), abs=16 / 112)
    assert 1.0 <= log.bits[-1] <= 1.0 + 16 / 112


def test_invariant_8_a_pruning_phase_leaves_the_share_that_its_steps_multiply_to():
    model, log = compiled(bases=6), Log()
    fit(
        model,
        tq.ALQRounds(
            bits=1.5,
            rounds=1,
            split=(1, 0, 3),
            rounds_until=1.0,
            ste_until=1.0,
            coordinate_until=1.0,
        ),
        4,
        log,
    )
    pruned = [bits for bits, mode in zip(log.bits, log.mode, strict=True) if mode == Mode.PRUNE]
    steps, start = len(pruned), log.bits[0]
    ratio = steps * (1 - (1.5 / start) ** (1 / steps))  # p_r, of which p_r / T goes at each step
    assert steps == 24 and pruned[-1] == pytest.approx(
        start * (1 - ratio / steps) ** steps, abs=16 / 112
    )


def test_weights_end_on_the_grid_and_only_at_the_end():
    model, callback = (
        compiled(),
        tq.ALQRounds(bits=1.0, rounds=1, ste_until=0.75, coordinate_until=0.75),
    )
    seen = []

    class Grid(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(
                all(kernel.quantizer.on_grid(kernel.state) for kernel, _ in kernels(self.model))
            )

    fit(model, callback, 4, Grid())
    assert seen == [False, False, False, True]
    largest = {
        name: np.abs(kernel.quantized(w)).max()
        for name, (kernel, w) in multibit_kernels(model).items()
    }
    assert callback.deviation.keys() == largest.keys()
    assert all(0.0 <= callback.deviation[name] < 0.1 * largest[name] for name in largest)
    late = compiled()
    callback = tq.ALQRounds(bits=1.0, rounds=1, coordinate_until=1.0)
    fit(late, callback, 4)
    assert callback.deviation.keys() == largest.keys()
    assert all(kernel.quantizer.on_grid(kernel.state) for kernel, _ in kernels(late))
    assert tq.project(late) == {}


@pytest.mark.long
def test_pruning_to_a_size():
    def size(model):
        codes = [kernel.encode(w)[0] for kernel, w in kernels(model)]
        assert all(kernel.quantizer.on_grid(kernel.state) for kernel, _ in kernels(model))
        return 30 + sum(
            np.count_nonzero(np.abs(c)) for c in codes
        )  # a part that no pruning takes away

    model = compiled()
    with projected(model):
        assert size(model) > 130
    fit(model, tq.ALQRounds(size_bytes=75, size=size, rounds=2))
    assert size(model) <= 75
    assert all(bits > 0 for bits in tq.average_bits(model).values())
    kept = compiled()
    fit(kept, tq.ALQRounds(size_bytes=1000, size=size, rounds=2))
    assert tq.average_bits(kept)["total"] > 3.5


def test_the_floor_holds_and_says_so():
    model = compiled()
    callback = tq.ALQRounds(bits=0.01, rounds=1, floor=0.5)
    with pytest.warns(
        UserWarning,
        match=r"pruning ends at 0\.571 bits per weight instead of 0\.010: the floor of 0\.5",
    ):
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[callback])
    assert tq.average_bits(model) == {
        "body/kernel": 0.5,
        "head/kernel": 1.0,
        "total": pytest.approx(64 / 112),
    }


def norm_net() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm", momentum=0.5)(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten(name="flatten")(x)))


def test_batch_norm_stands_still_while_bases_are_pruned():
    model = tq.quantize(norm_net(), [tq.Rule(".*", tq.MultiBit(bases=3))], activations=None)
    model.compile(tq.ALQ(0.01), "mse")
    norm = model.get_layer("norm")
    seen = []

    class Means(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(
                (
                    int(self.model.optimizer.mode),
                    np.asarray(norm.moving_mean).copy(),
                    np.asarray(norm.gamma).copy(),
                )
            )

    x = np.random.default_rng(0).normal(1.0, 1.0, (32, 6, 6, 2)).astype("float32")
    callback = tq.ALQRounds(
        bits=1.0, rounds=2, split=(1, 0, 1), rounds_until=0.8, ste_until=0.8, coordinate_until=1.0
    )
    model.fit(
        x,
        x[:, 0, 0, :1].repeat(3, 1),
        batch_size=8,
        epochs=5,
        verbose=0,
        callbacks=[callback, Means()],
    )
    assert [mode for mode, _, _ in seen] == ([Mode.BASIS] * 4 + [Mode.PRUNE] * 4) * 2 + [
        Mode.COORDINATE
    ] * 4
    for (_, before, gamma), (mode, after, learned) in pairwise(seen):
        assert (before == after).all() == (mode == Mode.PRUNE)
        assert (gamma != learned).any()
    assert "call" not in vars(norm)


@pytest.mark.long
def test_a_trained_network_ships_with_its_integers(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 2), name="image")
    x = layers.Conv2D(16, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="second")(x)
    net = keras.Model(inputs, layers.Dense(4, name="head")(layers.Flatten(name="flatten")(x)))
    model = tq.quantize(net, [tq.Rule(".*", tq.MultiBit(bases=3))])
    x = np.random.default_rng(0).normal(size=(64, 12, 12, 2)).astype("float32")
    y = x[:, :4, :4].mean((1, 2)).argmax(-1)
    model.compile(tq.ALQ(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(
        x, y, batch_size=16, epochs=8, verbose=0, callbacks=[tq.ALQRounds(bits=1.0, rounds=1)]
    )
    assert tq.average_bits(model)["total"] == pytest.approx(1.0, abs=0.05)
    export_tflite(model, tmp_path / "m.tflite", container=tmp_path / "m.tqw")
    report = verify(model, tmp_path / "m.tflite", x[:32], ["litert"])
    assert "litert: 0 of" in str(report)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert "litert: 0 of" in str(verify(loaded, tmp_path / "m.tflite", x[:4], ["litert"]))


@pytest.mark.parametrize(
    "arguments,match",
    [
        ({}, "give `bits`, or `size_bytes`"),
        ({"bits": 1.0, "size_bytes": 10, "size": len}, "give `bits`, or `size_bytes`"),
        ({"size_bytes": 10}, "together with `size`"),
        ({"bits": 0.0}, "above 0"),
        ({"bits": 1.0, "rounds_until": 0.9, "ste_until": 0.8}, "fractions must rise"),
        ({"bits": 1.0, "rounds": 0}, "one round at least"),
        ({"bits": 1.0, "split": (1, 1, 0)}, "one round at least"),
        ({"bits": 1.0, "decay": 0.0}, "0 < decay"),
        ({"bits": 1.0, "floor": 1.0}, "floor < 1"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        tq.ALQRounds(**arguments)


def test_parts_that_do_not_belong_together_are_refused_before_the_first_step():
    model = compiled()
    model.compile("adam", "mse")
    with pytest.raises(
        ValueError, match=r"only ALQ trains the multi-bit weights of body/kernel, head/kernel.*Adam"
    ):
        fit(model, tq.ALQRounds(bits=1.0))
    model.compile(tq.ALQ(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)), "mse")
    with pytest.raises(ValueError, match=r"cannot be a schedule"):
        fit(model, tq.ALQRounds(bits=1.0))
    other = tq.quantize(dense_net())
    other.compile(tq.ALQ(), "mse")
    with pytest.raises(ValueError, match=r"no layer has multi-bit weights"):
        fit(other, tq.ALQRounds(bits=1.0))


RESUME = """
import sys, keras, numpy as np, tensorflow as tf, tfqreg as tq
from keras import layers
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
y = np.tanh(x.mean((1, 2)))

class Save(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.save(f"{sys.argv[1]}/{epoch + 1}.keras")
        units = [np.asarray(v) for v in self.model.variables if v.name == "unit"]
        print(int(self.model.optimizer.mode), int(all((unit > 0).all() for unit in units)))

def fit(q, first, *others):
    ends = dict(rounds_until=0.6, ste_until=0.7, coordinate_until=0.85)
    rounds = tq.ALQRounds(bits=0.8, rounds=1, split=(2, 2, 2), **ends)
    options = dict(batch_size=8, epochs=10, shuffle=False, verbose=0)
    q.fit(x, y, initial_epoch=first, callbacks=[rounds, *others], **options)
    return [np.asarray(v) for v in (*q.variables, *q.optimizer.variables)]

keras.utils.set_random_seed(0)
inputs = keras.Input((6, 6, 2))
h = layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
h = layers.Flatten()(layers.ReLU()(layers.BatchNormalization()(h)))
net = keras.Model(inputs, layers.Dense(2, name="head")(h))
q = tq.quantize(net, [tq.Rule(".*", tq.MultiBit(bases=2))], activations=4)
q.compile(tq.ALQ(0.01), "mse")
whole = fit(q, 0, Save())
for split in (5, 7):
    resumed = fit(keras.models.load_model(f"{sys.argv[1]}/{split}.keras"), split)
    same = [a.tobytes() == b.tobytes() for a, b in zip(whole, resumed, strict=True)]
    print(split, len(same), same.count(False))
"""


@pytest.mark.long
def test_a_training_resumes_exactly_while_it_prunes_and_while_float_weights_stand_behind(tmp_path):
    lines = run_python(RESUME, tmp_path).splitlines()
    modes = [line.split() for line in lines[:10]]
    assert [int(mode) for mode, _ in modes] == [0, 0, 1, 1, 2, 2, 3, 1, 1, 1]
    assert [bool(int(grid)) for _, grid in modes] == [False] * 8 + [True] * 2
    assert [line.split()[0] for line in lines[10:]] == ["5", "7"]
    for line in lines[10:]:
        assert int(line.split()[1]) > 30 and int(line.split()[2]) == 0
