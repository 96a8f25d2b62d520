"""Writes a benchmark's figures with what is needed to repeat them."""

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("tfqreg", "keras", "tensorflow", "numpy", "ai-edge-litert", "tflite-runtime", "tf-keras")


def versions() -> dict[str, str]:
    """Returns the versions of Python, the machine's kind, and the packages that matter."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `result`, the command and the versions to `folder/name.json`; returns the path."""
    module = sys.modules["__main__"].__spec__
    command = " ".join(["python -m", module.name if module else name, *sys.argv[1:]])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"command": command, **result, "versions": versions()}, indent=2) + "\n")
    return path
