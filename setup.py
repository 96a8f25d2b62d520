"""What setup.cfg cannot say: the C decoder, built if there is a compiler."""

import sys

from setuptools import Extension, setup

# Microsoft's compiler knows `restrict` from C11 on.
FLAGS = ["/std:c11", "/O2"] if sys.platform == "win32" else ["-std=c99", "-O2"]
DECODER = Extension(
    "tfqreg.export.container._tqw",
    ["export/device/module.c", "export/device/tqw.c"],
    depends=["export/device/tqw.h"],
    extra_compile_args=FLAGS,
    py_limited_api=True,
    optional=True,
)

# One wheel for CPython 3.11 and all later ones: the decoder uses the stable interface alone.
setup(ext_modules=[DECODER], options={"bdist_wheel": {"py_limited_api": "cp311"}})
