"""Writes a benchmark's figures with what is needed to repeat them."""

import fcntl
import json
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = (
    "tfqreg",
    "keras",
    "tensorflow",
    "numpy",
    "ai-edge-litert",
    "tflite-runtime",
    "tf-keras",
)


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
    path.write_text(
        json.dumps({"command": command, **result, "versions": versions()}, indent=2) + "\n"
    )
    return path


class Cells:
    """The cells of a grid in `folder/name.json`, none of which is measured twice.

    So a grid can be resumed. Several processes may work on one grid. Delete the file to start anew.

    Args:
        name: of the benchmark.
        header: what holds for all cells, written beside them.
        folder: where the file goes.
    """

    def __init__(self, name: str, header: dict[str, Any], folder: Path = RESULTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.header = (
            folder / f"{name}.json",
            {"command": f"python -m benchmarks.{name}", **header},
        )

    @property
    def values(self) -> dict[str, Any]:
        """What has been measured, by cell."""
        return json.loads(self.path.read_text())["cells"] if self.path.is_file() else {}

    def __call__(self, key: str, measure: Callable[[], Any]) -> Any:
        """Returns the value of cell `key`; measures and writes it if it is not known."""
        if key not in self.values:
            value = measure()
            with (self.path.parent / f".{self.path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                cells = self.values | {key: value}
                result = {**self.header, "versions": versions(), "cells": cells}
                self.path.write_text(json.dumps(result, indent=2) + "\n")
            print(key, json.dumps(value), flush=True)
        return self.values[key]
