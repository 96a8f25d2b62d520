"""What setup.cfg cannot say: the C decoder, built if there is a compiler."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DECODER = Extension(
    "tfqreg.export.container._tqw",
    ["export/device/module.c", "export/device/tqw.c"],
    depends=["export/device/tqw.h"],
    py_limited_api=True,
    optional=True,
)


class BuildDecoder(build_ext):
    """Asks for C99 in the compiler's own words; Microsoft's has `restrict` in C11 alone."""

    def build_extension(self, ext: Extension) -> None:
        """Builds the decoder."""
        microsoft = self.compiler.compiler_type == "msvc"
        ext.extra_compile_args = ["/std:c11", "/O2"] if microsoft else ["-std=c99", "-O2"]
        super().build_extension(ext)


setup(ext_modules=[DECODER], cmdclass={"build_ext": BuildDecoder})
