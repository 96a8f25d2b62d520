"""What setup.cfg cannot say: the C decoder, built where there is a compiler and done without where
there is none.
"""

from setuptools import Extension, setup

DECODER = Extension(
    "tfqreg.export.container._tqw",
    ["export/device/module.c", "export/device/tqw.c"],
    depends=["export/device/tqw.h"],
    extra_compile_args=["-std=c99", "-O2"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[DECODER])
