"""Builds of the C decoder, each made once per test run and skipped if its compiler is missing."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEVICE = ROOT / "export" / "device"
TESTS = ROOT / "tests" / "export" / "device"
VECTORS = ROOT / "tests" / "vectors"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZE = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def tool(*names: str) -> str:
    """Returns the first of these programs that is installed; skips the test if none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def run(*command: str | Path) -> str:
    """Returns what a command prints; its errors are the test's."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def build(*flags: str | Path, compiler: str = "cc") -> Path:
    """Returns the file that `compiler` makes of these sources, with all warnings as errors."""
    output = Path(tempfile.mkdtemp(prefix="tqw-")) / "program"
    run(tool(compiler), *STRICT, "-I", DEVICE, *flags, "-o", output)
    return output


def checker(*flags: str, compiler: str = "cc") -> Path:
    """Returns a build of check.c."""
    return build(*flags, TESTS / "check.c", DEVICE / "tqw.c", compiler=compiler)


def good() -> list[Path]:
    """Returns the containers that decode."""
    return sorted((VECTORS / "good").glob("*.tqw"))


def bad() -> list[Path]:
    """Returns the containers that must be refused."""
    return sorted((VECTORS / "bad").glob("*.tqw"))


def decode(
    program: Path, files: list[Path], base: Path | None = None, *, runner: tuple[str, ...] = ()
) -> dict:
    """Returns {file: (error code, SHA-256 of the output)}; fails on what check.c finds wrong."""
    found = {}
    for line in run(*runner, program, "decode", base or "-", *files).splitlines():
        path, error, digest, problem = line.split(" ", 3)
        assert not problem, line
        found[Path(path)] = (int(error), digest)
    return found
