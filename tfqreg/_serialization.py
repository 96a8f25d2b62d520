"""Makes the classes of tfqreg known to `keras.models.load_model`, whichever is imported first.

Keras finds a class in a `.keras` file by its registered name, so the class must have been imported
by then. Importing tfqreg must not import Keras, which takes seconds: the console command answers
without it.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Importing these imports, and thereby registers, every class that a saved model can hold.
_MODULES = (
    "tfqreg.distillation",
    "tfqreg.layers",
    "tfqreg.optimizers",
    "tfqreg.pruning.partial_l2",
    "tfqreg.pruning.rate_distortion",
    "tfqreg.pruning.surgery",
    "tfqreg.quantizers",
    "tfqreg.regularizers",
)


def register() -> None:
    """Imports, and so registers, every serializable class."""
    for name in _MODULES:
        importlib.import_module(name)


def register_once_keras_is_there() -> None:
    """Registers every serializable class now, or right after the first import of Keras."""
    if "keras" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(MetaPathFinder):
    """Finds Keras as the finders after it do, and registers the classes once it is loaded.

    It stays in `sys.meta_path`: an import of Keras that failed can be tried again, and taking a
    finder out of the list while another thread walks it would make that thread miss one.

    Keras and tfqreg then import each other. Threads that import one and the other for the first
    time at the same moment may get the deadlock error of circular imports; import Keras before
    starting them.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        # Only those after it, so that two of these (`tfqreg` reloaded) do not ask each other.
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register
        return spec
