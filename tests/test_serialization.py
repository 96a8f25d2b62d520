"""The classes of tfqreg are registered with Keras whichever is imported first, and however.

A Keras of two lines stands in for the real one: what is tested is the import, and
tests/test_wheel.py loads models.
"""

import pkgutil
from pathlib import Path

import keras
import pytest

import tfqreg
from tests.tiny_nets import run_python
from tfqreg import _serialization

BEGIN = """
import importlib, sys

sys.path.insert(0, sys.argv[1])
import tfqreg
from tfqreg import _serialization
_serialization.register = lambda: print("registered")
"""


@pytest.fixture
def stand_in(tmp_path) -> Path:
    """A folder with a package `keras` that fails as long as there is a file `broken`."""
    code = "import pathlib, sys\nif (pathlib.Path(sys.argv[1]) / 'broken').exists(): raise OSError"
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(code)
    return tmp_path


def test_the_list_of_modules_is_whole():
    _serialization.register()
    before = set(keras.saving.get_custom_objects())
    for found in pkgutil.walk_packages(tfqreg.__path__, "tfqreg."):
        if not found.name.startswith("tfqreg.export"):
            __import__(found.name)
    added = set(keras.saving.get_custom_objects()) - before
    assert not {name for name in added if name.startswith("tfqreg>")}


def test_nothing_is_registered_before_keras_is_imported(stand_in):
    code = BEGIN + "import importlib.util; assert importlib.util.find_spec('keras').origin"
    assert run_python(code, stand_in) == ""
    assert run_python(BEGIN + "import keras", stand_in) == "registered\n"


def test_an_import_of_keras_that_fails_can_be_tried_again(stand_in):
    (stand_in / "broken").touch()
    again = """
try:
    import keras
except OSError:
    print("failed")
import pathlib
(pathlib.Path(sys.argv[1]) / "broken").unlink()
import keras
"""
    assert run_python(BEGIN + again, stand_in) == "failed\nregistered\n"


def test_a_registration_that_fails_is_tried_again(stand_in):
    code = """
results = iter((OSError("broken installation"), None))
def register():
    if failure := next(results):
        raise failure
    print("registered")
_serialization.register = register
try:
    import keras
except OSError as error:
    print(error)
import keras
"""
    assert run_python(BEGIN + code, stand_in) == "broken installation\nregistered\n"


def test_tfqreg_may_be_reloaded_before_keras_and_after(stand_in):
    code = "importlib.reload(tfqreg); import keras; print('imported'); importlib.reload(tfqreg)"
    *first, imported, last = run_python(BEGIN + code, stand_in).splitlines()
    assert set(first) == {"registered"}
    assert (imported, last) == ("imported", "registered")


def test_threads_that_import_both_end_with_both(stand_in):
    code = """
from threading import Thread
names = ("keras", "tfqreg.errors") * 4
threads = [Thread(target=importlib.import_module, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert "keras" in sys.modules and "tfqreg.errors" in sys.modules
"""
    assert set(run_python(BEGIN + code, stand_in).splitlines()) == {"registered"}


@pytest.mark.parametrize(
    "first",
    [
        "import tfqreg; tfqreg.Uniform",
        "import tfqreg; tfqreg.ALQRounds",
        "import tfqreg.optimizers",
        "import tfqreg.quantizers.base",
        "import tfqreg.export.lowering.lower",
    ],
)
def test_a_module_of_tfqreg_may_be_what_imports_keras(first):
    code = f"{first}; import keras; print(sorted(keras.saving.get_custom_objects()))"
    printed = run_python(code)
    assert "tfqreg>ALQ'" in printed
    assert "tfqreg>Uniform'" in printed
