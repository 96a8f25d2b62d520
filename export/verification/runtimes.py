"""Runs a `.tflite` on the runtimes that are installed, and returns the outputs by tensor name.

tflite-runtime gets a process of its own: once TensorFlow is loaded, its interpreter dies with
`ValueError: vector::reserve`. So does TensorFlow Lite for Microcontrollers, which says why it
refuses a model on stderr alone; and so do ARM's runtimes, which qemu runs.
"""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from . import arm, interpreters
from .interpreters import MICRO

RUNTIMES = ("litert", "tensorflow", "tflite-runtime-ref", MICRO, "litert-ref", "tensorflow-ref")
# Those of ARM's 64-bit processors, phones among them.
ARM_RUNTIMES = ("litert-aarch64", "litert-aarch64-ref", "tflite-runtime-aarch64-ref")
# TFLite's own kernels, which no simulator equals but on portable models; tflite-runtime's XNNPACK
# is too old for what is modelled.
NOT_SIMULATED = (
    "tflite-runtime",
    "litert-builtin",
    "litert-aarch64-builtin",
    "tflite-runtime-aarch64",
    "tflite-runtime-armv7l",
)
# One of each arithmetic of XNNPACK and of the reference operators on x86-64.
DEFAULT_RUNTIMES = ("litert", "tensorflow", "tflite-runtime-ref")
# What is imported, and what installs it.
_MODULES = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "tflite-runtime": ("tflite_runtime", "tfqreg[tflite-runtime]"),
    MICRO: ("tflite_micro", "tflite-micro"),
}
BATCH = 32  # samples per invocation; any number gives the same outputs


def missing(runtime: str) -> str | None:
    """Why a runtime cannot run here, or None when it can.

    Raises:
        ValueError: if no runtime has this name.
    """
    plain = runtime.partition("@")[0]
    known = (*RUNTIMES, *ARM_RUNTIMES, *NOT_SIMULATED)
    if plain not in known or (plain != runtime and not arm.is_arm(plain)):
        raise ValueError(f"A runtime is one of {', '.join(known)}. Received: runtime={runtime!r}")
    if arm.is_arm(runtime):
        return arm.missing(runtime)
    module, package = _MODULES[runtime.removesuffix("-ref").removesuffix("-builtin")]
    if importlib.util.find_spec(module):
        return None
    return f"{module} is not installed. Install it with pip install '{package}'"


def run(
    tflite: bytes, inputs: Mapping[str, np.ndarray], runtime: str = "litert", batch: int = BATCH
) -> dict[str, np.ndarray]:
    """Runs a model and returns its outputs by tensor name.

    Args:
        tflite: the model.
        inputs: tensor name -> array (samples, ...).
        runtime: one of `RUNTIMES`, `ARM_RUNTIMES` or `NOT_SIMULATED`; "-ref" stands for
            BUILTIN_REF, "-builtin" for TFLite's own kernels, the others use their default
            delegates. After an ARM runtime's name, "@" and one of qemu's processors, such as
            "litert-aarch64@cortex-a53"; by default `arm.PROCESSOR`.
        batch: samples per invocation; tflite-micro takes one at a time.

    Raises:
        ValueError: if no runtime has this name.
        RuntimeError: when the runtime is not installed or refuses the model.
    """
    return run_all([tflite], inputs, runtime, batch)[0]


def run_all(
    models: Sequence[bytes],
    inputs: Mapping[str, np.ndarray],
    runtime: str = "litert",
    batch: int = BATCH,
) -> list[dict[str, np.ndarray]]:
    """`run` of several models on the same inputs, in one process."""
    if reason := missing(runtime):
        raise RuntimeError(f"{runtime}: {reason}.")
    if runtime.startswith("tflite-runtime") or runtime == MICRO or arm.is_arm(runtime):
        return _run_apart(models, inputs, runtime, batch)
    return [interpreters.invoke(model, inputs, runtime, batch) for model in models]


def _run_apart(
    models: Sequence[bytes], inputs: Mapping[str, np.ndarray], runtime: str, batch: int
) -> list[dict[str, np.ndarray]]:
    # -P keeps this folder's modules from hiding the standard library's.
    python, interpreter = [sys.executable, "-P"], runtime
    if arm.is_arm(runtime):
        python, interpreter = arm.python(runtime)
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "inputs.npz")
        interpreters.save_arrays(given, inputs)
        paths = [Path(folder, f"{i}.tflite") for i in range(len(models))]
        for path, model in zip(paths, models, strict=True):
            path.write_bytes(model)
        arguments = [interpreters.__file__, interpreter, str(batch), given, *paths]
        process = subprocess.run(
            [*python, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        if process.returncode:
            said = (
                process.stderr.strip()[-2000:]
                or f"its process ended with code {process.returncode}"
            )
            raise RuntimeError(f"{runtime} failed on the model: {said}")
        return [interpreters.load_arrays(f"{path}.npz") for path in paths]
