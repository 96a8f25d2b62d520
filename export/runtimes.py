"""Runs a `.tflite` on the runtimes that are installed, and returns the outputs by tensor name.

tflite-runtime gets a process of its own: once TensorFlow is loaded, its interpreter dies with
`ValueError: vector::reserve`. This file is that process's script, so it imports nothing of the package.
"""

import importlib.util
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

RUNTIMES = ("litert", "tensorflow", "tflite-runtime-ref", "litert-ref", "tensorflow-ref")
_MODULES = {"litert": "ai_edge_litert", "tensorflow": "tensorflow", "tflite-runtime": "tflite_runtime"}
_BATCH = 32


def missing(runtime: str) -> str | None:
    """Why a runtime cannot run here, or None when it can.

    Raises:
        ValueError: when no runtime has this name.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"A runtime is one of {', '.join(RUNTIMES)}. Received: runtime={runtime!r}")
    module = _MODULES[runtime.removesuffix("-ref")]
    return None if importlib.util.find_spec(module) else f"{module} is not installed"


def run(
    tflite: bytes, inputs: Mapping[str, np.ndarray], runtime: str = "litert", batch: int = _BATCH
) -> dict[str, np.ndarray]:
    """Runs a model and returns its outputs by tensor name.

    Args:
        tflite: the model.
        inputs: tensor name -> array (samples, ...).
        runtime: one of `RUNTIMES`; "-ref" stands for BUILTIN_REF, the others use their default delegates.
        batch: samples per invocation.

    Raises:
        ValueError: when no runtime has this name.
        RuntimeError: when the runtime is not installed or refuses the model.
    """
    if reason := missing(runtime):
        raise RuntimeError(f"{runtime}: {reason}.")
    if runtime.startswith("tflite-runtime"):
        return _run_apart(tflite, inputs, runtime, batch)
    return _invoke(_interpreter(tflite, runtime), inputs, batch)


def _interpreter(tflite: bytes, runtime: str) -> Any:
    interpreter: Any
    resolver: Any
    if runtime.startswith("tensorflow"):
        import tensorflow as tf

        interpreter, resolver = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    elif runtime.startswith("litert"):
        from ai_edge_litert import interpreter as litert

        interpreter, resolver = litert.Interpreter, litert.OpResolverType
    else:
        from tflite_runtime import interpreter as old

        interpreter, resolver = old.Interpreter, old.OpResolverType
    kind = resolver.BUILTIN_REF if runtime.endswith("-ref") else resolver.AUTO
    with warnings.catch_warnings():
        # tf.lite.Interpreter announces its own removal.
        warnings.simplefilter("ignore")
        return interpreter(model_content=tflite, experimental_op_resolver_type=kind)


def _invoke(interpreter: Any, inputs: Mapping[str, np.ndarray], batch: int) -> dict[str, np.ndarray]:
    slots = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    samples = len(next(iter(inputs.values())))
    parts, allocated = [], 0
    for start in range(0, samples, batch):
        size = min(batch, samples - start)
        if size != allocated:
            for name, slot in slots.items():
                interpreter.resize_tensor_input(slot, (size, *inputs[name].shape[1:]))
            interpreter.allocate_tensors()
            allocated = size
        for name, slot in slots.items():
            interpreter.set_tensor(slot, inputs[name][start : start + size])
        interpreter.invoke()
        parts.append({name: interpreter.get_tensor(index) for name, index in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs}


def _run_apart(tflite: bytes, inputs: Mapping[str, np.ndarray], runtime: str, batch: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        model, given, results = (Path(folder, name) for name in ("model.tflite", "inputs.npz", "results.npz"))
        model.write_bytes(tflite)
        _save(given, inputs)
        # -P keeps this folder's modules from hiding the standard library's.
        command = [sys.executable, "-P", __file__, runtime, str(batch), str(model), str(given), str(results)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise RuntimeError(f"{runtime} failed on the model: {process.stderr.strip()[-2000:]}")
        return _load(results)


def _save(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    # Names travel as data: a tensor may be called "file", which savez takes for its own argument.
    np.savez(path, *arrays.values(), names=np.array(list(arrays)))


def _load(path: str | Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {str(name): stored[f"arr_{i}"] for i, name in enumerate(stored["names"])}


def _main(runtime: str, batch: str, model: str, given: str, results: str) -> None:
    arrays = _invoke(_interpreter(Path(model).read_bytes(), runtime), _load(given), int(batch))
    _save(results, arrays)


if __name__ == "__main__":
    _main(*sys.argv[1:])
