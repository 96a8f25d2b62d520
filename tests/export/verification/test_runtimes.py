"""Running a model: batches, names, processes and refusals."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.flatbuffer.write import debug_copy, write_tflite
from tfqreg.export.ir import Graph
from tfqreg.export.verification import interpreters
from tfqreg.export.verification.runtimes import RUNTIMES, missing, run

INSTALLED = [name for name in RUNTIMES if missing(name) is None]


@pytest.mark.parametrize("runtime", INSTALLED)
def test_batches_change_nothing(runtime):
    graph = graphs.residual_net(0)
    tflite, x = debug_copy(write_tflite(graph)), graphs.codes(graph, 7)
    whole, parts = run(tflite, x, runtime, batch=7), run(tflite, x, runtime, batch=3)
    assert sorted(whole) == sorted(op.outputs[0] for op in graph.ops)
    for name, array in whole.items():
        assert array.shape == (7, *graph.tensors[name].shape[1:])
        assert np.array_equal(array, parts[name])


@pytest.mark.parametrize("runtime", INSTALLED)
def test_float_ends_and_awkward_names(runtime):
    graph = renamed(graphs.float_io(0), {"input": "file", "output": "a/b"})
    x = {"file": np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)}
    result = run(write_tflite(graph), x, runtime)
    assert list(result) == ["a/b"]
    assert result["a/b"].dtype == np.float32
    assert np.unique(result["a/b"]).size > 4


def renamed(graph: Graph, names: dict[str, str]) -> Graph:

    def new(name: str) -> str:
        return names.get(name, name)

    def each(many):
        return tuple(map(new, many))

    return Graph(
        {new(k): replace(t, name=new(k)) for k, t in graph.tensors.items()},
        [replace(op, inputs=each(op.inputs), outputs=each(op.outputs)) for op in graph.ops],
        list(each(graph.inputs)),
        list(each(graph.outputs)),
    )


@pytest.mark.parametrize(
    "runtime, words", [("tflite-runtime-ref", "should be 'TFL3'"), ("tflite-micro", "unpack_from")]
)
def test_a_refused_model_says_so(runtime, words):
    if runtime not in INSTALLED:
        pytest.skip(f"{runtime} is not installed")
    with pytest.raises(RuntimeError, match=rf"{runtime} failed on the model: .*{words}"):
        run(b"no model at all", {"x": np.zeros((1, 2), np.int8)}, runtime)


def test_unknown_runtime():
    with pytest.raises(ValueError, match="Received: runtime='tvm'"):
        run(b"", {}, "tvm")


def test_the_script_loads_no_runtime_by_itself():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print({'tensorflow', 'tfqreg'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, interpreters.__file__]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
