"""Makes the classes of tfqreg known to `keras.models.load_model`, whichever is imported first.

Keras finds a class in a `.keras` file by its registered name, so the class must have been imported
by then. Importing tfqreg must not import Keras, which takes seconds: the console command answers
without it.
"""

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
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
    """Finds Keras and tfqreg as the finders after it do, and registers the classes after them.

    Keras may be imported by a module of tfqreg. What that module defines is needed to register the
    classes, so they are registered after the outermost of these imports.

    It stays in `sys.meta_path`: an import of Keras that failed can be tried again, and taking a
    finder out of the list while another thread walks it would make that thread miss one.

    Keras and tfqreg then import each other. Threads that import one and the other for the first
    time at the same moment may get the deadlock error of circular imports; import Keras before
    starting them.
    """

    def __init__(self) -> None:
        self.running = threading.local()
        self.registered = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.registered or not (fullname == "keras" or fullname.startswith("tfqreg.")):
            return None
        # Only those after it, so that two of these (`tfqreg` reloaded) do not ask each other.
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(self._execute, spec.loader.exec_module)
        return spec

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        outermost = not getattr(self.running, "inside", False)
        self.running.inside = True
        try:
            execute(module)
        finally:
            self.running.inside = not outermost
        keras_is_there = module.__name__ == "keras" or _is_loaded("keras")
        if outermost and keras_is_there and not self.registered:
            # First: what it imports asks this finder too.
            self.registered = True
            try:
                register()
            except BaseException:
                self.registered = False  # so that the next import tries again
                raise


def _is_loaded(name: str) -> bool:
    """Returns whether a module is imported to its end."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)
