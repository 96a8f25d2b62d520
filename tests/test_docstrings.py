"""The examples in the docstrings of `tfqreg`."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import tfqreg

MODULES = [
    module.name
    for module in pkgutil.walk_packages(tfqreg.__path__, "tfqreg.")
    if not module.name.startswith("tfqreg.export")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_what_is_public_has_an_example():
    found = {
        test.name.split(".")[-1] for test in doctest.DocTestFinder().find(tfqreg) if test.examples
    }
    for name in MODULES:
        module = importlib.import_module(name)
        found |= {
            test.name.split(".")[-1]
            for test in doctest.DocTestFinder().find(module)
            if test.examples
        }
    # Those of tfqreg.export run in tests/export/test_docstring_examples.py.
    public = {
        name
        for name in tfqreg.__all__
        if not inspect.ismodule(found_here := getattr(tfqreg, name))
        and not found_here.__module__.startswith("tfqreg.export")
    }
    assert public - found == set()
