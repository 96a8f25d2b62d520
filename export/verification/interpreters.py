"""Runs `.tflite` models on one interpreter: as a module, or as the script of a process of its own.

That process may run on another Python and another processor, so this file imports nothing of the
package.
"""

import os
import re
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

MICRO = "tflite-micro"
_FIRST_ARENA_BYTES = 1 << 20  # enough for small models; larger ones get 4 times as much, again
_LARGEST_ARENA_BYTES = 1 << 30  # the search ends here
_SHORT_OF_MEMORY = re.compile("missing: |too small|Failed to allocate")
_UNKNOWN_OPERATOR = re.compile(r"Didn't find op for builtin opcode '(\w+)'")


def invoke(
    tflite: bytes, inputs: Mapping[str, np.ndarray], runtime: str, batch: int
) -> dict[str, np.ndarray]:
    """Returns a model's outputs by tensor name.

    Args:
        tflite: the model.
        inputs: tensor name -> array (samples, ...).
        runtime: "litert", "tensorflow", "tflite-runtime" or "tflite-micro"; "-ref" at its end
            stands for the reference kernels, "-builtin" for TFLite's own without XNNPACK.
        batch: samples per invocation; tflite-micro takes one at a time.

    Raises:
        RuntimeError, ValueError, struct.error: when the interpreter refuses the model.
    """
    if runtime == MICRO:
        return _invoke_micro(tflite, inputs)
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
    kind = resolver.AUTO
    if runtime.endswith("-ref"):
        kind = resolver.BUILTIN_REF
    elif runtime.endswith("-builtin"):
        kind = resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        # tf.lite.Interpreter announces its own removal.
        warnings.simplefilter("ignore")
        return interpreter(model_content=tflite, experimental_op_resolver_type=kind)


def _invoke(
    interpreter: Any, inputs: Mapping[str, np.ndarray], batch: int
) -> dict[str, np.ndarray]:
    details = interpreter.get_input_details()
    slots = {detail["name"]: detail["index"] for detail in details}
    outputs = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
    samples = len(next(iter(inputs.values())))
    parts, allocated = [], 0
    if any(detail["shape_signature"][0] > 0 for detail in details):
        batch = 1  # as the model says
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


def _invoke_micro(tflite: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    interpreter = _micro_interpreter(tflite)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    subgraph: Any = model.subgraphs[0]  # type: ignore[index]
    ends = [
        [subgraph.tensors[i].name.decode() for i in found]
        for found in (subgraph.inputs, subgraph.outputs)
    ]
    parts = []
    for sample in range(len(next(iter(inputs.values())))):
        for slot, name in enumerate(ends[0]):
            interpreter.set_input(np.ascontiguousarray(inputs[name][sample : sample + 1]), slot)
        interpreter.invoke()
        parts.append([interpreter.get_output(slot) for slot in range(len(ends[1]))])
    return {
        name: np.concatenate([part[slot] for part in parts]) for slot, name in enumerate(ends[1])
    }


def _micro_interpreter(tflite: bytes) -> Any:
    """Returns an interpreter in an arena that the model fits in.

    That is the smallest of 1 MiB times a power of 4.
    """
    from tflite_micro.python.tflite_micro import runtime

    arena_bytes = _FIRST_ARENA_BYTES
    while True:
        with tempfile.TemporaryFile() as log, _stderr_to(log.fileno()):
            try:
                return runtime.Interpreter.from_bytes(tflite, arena_size=arena_bytes)
            except RuntimeError as error:
                log.seek(0)
                reason = log.read().decode(errors="replace").strip() or str(error)
        if unknown := _UNKNOWN_OPERATOR.search(reason):
            raise RuntimeError(f"it has no operator {unknown[1]}")
        if not _SHORT_OF_MEMORY.search(reason) or arena_bytes >= _LARGEST_ARENA_BYTES:
            raise RuntimeError(reason)
        arena_bytes *= 4


@contextmanager
def _stderr_to(descriptor: int) -> Iterator[None]:
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores arrays by name, as `load_arrays` reads them."""
    # Names travel as data: a tensor may be called "file", which savez takes for its own argument.
    np.savez(path, *arrays.values(), names=np.array(list(arrays)))


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Returns what `save_arrays` stored."""
    with np.load(path) as stored:
        return {str(name): stored[f"arr_{i}"] for i, name in enumerate(stored["names"])}


def _main(runtime: str, batch: str, given: str, models: Sequence[str]) -> None:
    """Runs each model on the same inputs, and stores its outputs beside it as `.npz`."""
    inputs = load_arrays(given)
    for model in models:
        try:
            outputs = invoke(Path(model).read_bytes(), inputs, runtime, int(batch))
        except (RuntimeError, ValueError, struct.error) as error:
            sys.exit(f"{error}")
        save_arrays(f"{model}.npz", outputs)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
