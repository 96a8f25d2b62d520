"""What `tfqreg` exports, what it imports, and the contract every quantizer keeps."""

import ast
import inspect
import pkgutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tfqreg
from tfqreg.quantizers import Quantizer
from tfqreg.regularizers import Penalty

FOLDER = Path(tfqreg.__file__).parent
SOURCES = [path for path in FOLDER.rglob("*.py") if "export" not in path.relative_to(FOLDER).parts]
CLASSES = [
    getattr(tfqreg, name) for name in tfqreg.__all__ if inspect.isclass(getattr(tfqreg, name))
]
QUANTIZERS = [cls for cls in CLASSES if issubclass(cls, Quantizer)]
PENALTIES = [cls for cls in CLASSES if issubclass(cls, Penalty)]
REQUIRED = {"sparsity": 0.5, "layer": layers.Dense(2), "pattern": "x"}


def example(cls: type):
    """An instance from the required arguments alone."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    return cls(**{name: REQUIRED[name] for name in needed if name != "self"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_imports_keras_and_numpy_and_never_tensorflow(path):
    allowed = {"tfqreg", "keras", "lazy_loader", "numpy"} | sys.stdlib_module_names
    inside_a_function = {"tensorboard"}
    tree = ast.parse(path.read_text())
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        for module in modules:
            package = module.split(".")[0]
            assert package in allowed | (set() if id(node) in at_top else inside_a_function), module
            assert not module.startswith("keras.src"), module
            assert not module.startswith("tfqreg.export"), module


def test_all_is_what_there_is():
    assert len(set(tfqreg.__all__)) == len(tfqreg.__all__)
    for name in tfqreg.__all__:
        assert getattr(tfqreg, name).__doc__, name
    assert len((FOLDER / "__init__.py").read_text().splitlines()) <= 60


def test_every_module_says_what_it_is_for():
    names = [name for _, name, _ in pkgutil.walk_packages([str(FOLDER)])]
    assert {"wrap", "graph", "quantizers", "layers"} <= set(names)
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("cls", QUANTIZERS)
def test_quantizers_equal_what_their_config_makes(cls):
    quantizer = example(cls)
    assert cls(**quantizer.get_config()) == quantizer
    assert (
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(quantizer))
        == quantizer
    )


@pytest.mark.parametrize("cls", PENALTIES)
def test_penalties_equal_what_their_config_makes(cls):
    penalty = example(cls)
    assert cls(**penalty.get_config()).get_config() == penalty.get_config()


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, layers.Layer)])
def test_layers_need_no_custom_objects(cls):
    assert keras.saving.get_registered_name(cls) == f"tfqreg>{cls.__name__}"
    layer = example(cls)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(restored) is cls and restored.name == layer.name


@pytest.mark.parametrize("cls", QUANTIZERS)
@pytest.mark.parametrize(
    "shape,axes", [((6, 5), (1,)), ((3, 3, 2, 4), (3,)), ((3, 3, 4, 2), (2, 3))]
)
def test_quantized_weights_are_the_decoded_codes(cls, shape, axes):
    quantizer, w = example(cls), np.random.default_rng(0).normal(size=shape).astype(np.float32)
    state = quantizer.fit_state(w, axes)
    state = {**state, **quantizer.project(state)}
    assert {name: tuple(value.shape) for name, value in state.items()} == quantizer.state_shapes(
        shape, axes
    )
    assert set(quantizer.trainable) <= set(state)
    codes, params = quantizer.encode(w, state)
    assert codes.dtype == np.int8 and codes.shape == shape
    q = quantizer(keras.ops.convert_to_tensor(w), state)
    np.testing.assert_array_equal(quantizer.decode(codes, params), q)
    np.testing.assert_array_equal(quantizer.nearest(keras.ops.convert_to_tensor(w), state), q)
    if quantizer.has_zero:
        np.testing.assert_array_equal(quantizer(keras.ops.zeros(shape), state), np.zeros(shape))
