"""A training that was saved and went on in a new process equals one that never stopped, bit for
bit.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_nets import run_python

EPOCHS = 8
# 8 steps an epoch, 64 in all: pruning ends at step 29, in epoch 3; settling begins at step 54, in
# epoch 6.
SPLITS = {"prune": 2, "midway": 4, "settle": 7}

TRAIN = f"""
import sys, keras, numpy as np, tensorflow as tf, tfqreg as tq
from keras import layers
tf.config.experimental.enable_op_determinism()
# Sums by several threads differ from process to process.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
y = np.tanh(x.mean((1, 2)))

def new_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2))
    h = layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    h = layers.ReLU()(layers.BatchNormalization()(h))
    h = layers.Dense(32, name="hidden")(layers.Flatten()(h))
    net = keras.Model(inputs, layers.Dense(2, name="head")(h))
    q = tq.quantize(net, [
        tq.Rule("conv", tq.Uniform(3, per_channel=True), tq.MSQE(0.02), tq.PartialL2(0.5)),
        tq.Rule("hidden", tq.Focused(separation=0.0), prune=tq.Surgery(0.5)),
        tq.Rule(
            "head",
            tq.Uniform(4, scale_from="task"),
            tq.MSQE(0.02, scope="layer"),
            tq.PartialL2(0.25),
        ),
    ], activations=4)
    q.compile(keras.optimizers.Adam(0.01), "mse")
    return q

def fit(q, first, *callbacks):
    stages = tq.Stages(refresh_steps=3)
    callbacks = [stages, tq.Incremental(), *callbacks]
    options = dict(batch_size=8, epochs={EPOCHS}, shuffle=False, verbose=0)
    q.fit(x, y, initial_epoch=first, callbacks=callbacks, **options)

def dump(q, file):
    parts = [*q.variables, *q.optimizer.variables]
    np.savez(file, *[np.asarray(v) for v in parts], paths=[v.path for v in parts])
"""

WHOLE = """
class Save(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if str(epoch + 1) in sys.argv[2:]:
            self.model.save(f"{sys.argv[1]}/{epoch + 1}.keras")
            print(epoch + 1, int(self.model.get_layer("conv").kernels["kernel"].stage))

q = new_model()
fit(q, 0, Save())
dump(q, sys.argv[1] + "/whole.npz")
"""

RESUME = """
for split in sys.argv[2:]:
    q = keras.models.load_model(f"{sys.argv[1]}/{split}.keras")
    fit(q, int(split))
    dump(q, f"{sys.argv[1]}/{split}.npz")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """The folder of the results, and the stage at every split."""
    folder = tmp_path_factory.mktemp("resume")
    printed = run_python(TRAIN + WHOLE, folder, *SPLITS.values())
    run_python(TRAIN + RESUME, folder, *SPLITS.values())
    return folder, {line.split()[0]: int(line.split()[1]) for line in printed.splitlines()}


@pytest.mark.long
@pytest.mark.parametrize("name,stage", [("prune", 0), ("midway", 1), ("settle", 2)])
def test_resumed_training_equals_the_uninterrupted(runs, name, stage):
    folder, stages = runs
    assert stages[str(SPLITS[name])] == stage
    whole, resumed = np.load(folder / "whole.npz"), np.load(folder / f"{SPLITS[name]}.npz")
    paths = [str(path) for path in whole["paths"]]
    assert len(whole.files) == len(resumed.files) == len(paths) + 1
    different = [
        path
        for i, path in enumerate(paths)
        if whole[f"arr_{i}"].tobytes() != resumed[f"arr_{i}"].tobytes()
    ]
    assert different == []
    learned = (
        "kernel",
        "mask",
        "log2_scale",
        "omega_unit",
        "stage",
        "threshold",
        "base_scale",
        "moving_mean",
    )
    for part in (*learned, "centre", "float_below"):
        assert any(path.endswith(part) for path in paths), part
    assert any("adam" in path.lower() or "momentum" in path for path in paths)
