"""Reads what a `.tflite` says of itself."""

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfqreg.errors import ModelError


def read_tflite(path: str | Path) -> bytes:
    """Returns the bytes of a `.tflite`; raises ValueError for a file that is none."""
    data = Path(path).read_bytes()
    if data[4:8] != b"TFL3":
        raise ModelError(
            str(path),
            "this is no .tflite file",
            received=f"{len(data)} bytes, starting {data[:8]!r}",
        )
    return data


def ends_of_file(tflite: bytes, path: str | Path) -> list[list[tuple[str, str]]]:
    """Returns name and dtype of the inputs and of the outputs."""
    dtypes = {
        value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()
    }
    try:
        subgraph: Any = schema.ModelT.InitFromPackedBuf(tflite).subgraphs[0]  # type: ignore[index]
        return [
            [
                (tensor.name.decode(), dtypes[tensor.type])
                for tensor in (subgraph.tensors[i] for i in ends)
            ]
            for ends in (subgraph.inputs, subgraph.outputs)
        ]
    except (
        Exception
    ) as error:  # FlatBuffers' Python reader checks nothing: damage ends in whatever it trips over.
        raise ModelError(
            str(path), "this .tflite file is damaged", received=f"{len(tflite)} bytes"
        ) from error
