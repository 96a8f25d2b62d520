"""Builds the sdist and the wheel, and runs commands where nothing leads back to the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ["setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")


def run(command: list[str | Path], folder: Path) -> str:
    """Runs a command in a folder, with the installed packages alone; returns all it prints."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["TF_CPP_MIN_LOG_LEVEL"] = "3"
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def sdist(folder: Path) -> Path:
    """Builds the sdist of a copy, so that no earlier build of the checkout fills a gap in it."""
    for name in ("tfqreg", "export"):
        shutil.copytree(ROOT / name, folder / name, ignore=BUILT)
    for path in [*SOURCES, *(path.name for path in ROOT.glob("constraints*.txt"))]:
        shutil.copy(ROOT / path, folder)
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    run([sys.executable, "-c", build], folder)
    (found,) = (folder / "dist").iterdir()
    return found


def wheel(sdist: Path) -> Path:
    """Builds the wheel of an sdist, without build isolation: that would download setuptools each
    time, and the one that is installed is in the range of pyproject.toml.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--no-index", "--wheel-dir", sdist.parent / "wheels", sdist], sdist.parent)
    (found,) = (sdist.parent / "wheels").iterdir()
    return found
