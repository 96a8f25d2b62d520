"""Reads tensors from PyTorch's file format of before 1.6; runs nothing that a file names."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# The first pickle of such a file.
MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
Description = tuple[
    str, int, tuple[int, ...], tuple[int, ...]
]  # storage key, offset, shape, strides


class _Unpickler(pickle.Unpickler):
    """Resolves the handful of names a state dict needs, and refuses all others."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, shape, strides, *_: (key, offset, shape, strides)
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"A state dict holds tensors alone. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        _, storage, key, *_ = pid
        self.dtypes[key] = DTYPES[storage]
        return key


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict by name.

    The file is a run of pickles - magic number, protocol, system, the dict, the list of storages -
    and then, for each storage in that order, its length as an int64 and its elements.

    Args:
        path: a `.pth` file that `torch.save` wrote before PyTorch 1.6, or later in the legacy
            format.

    Raises:
        pickle.UnpicklingError: for another format, or a file with more than tensors.
    """
    with path.open("rb") as file:
        if _Unpickler(file).load() != MAGIC:
            raise pickle.UnpicklingError(f"{path}: not in PyTorch's legacy format.")
        for _ in range(2):  # protocol and system
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        described: dict[str, Description] = unpickler.load()
        storages = {}
        for key in _Unpickler(file).load():
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            dtype = np.dtype(unpickler.dtypes[key])
            storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return {
        name: _tensor(storages[key], offset, shape, strides)
        for name, (key, offset, shape, strides) in described.items()
    }


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    if offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) >= storage.size:
        raise pickle.UnpicklingError(
            f"A tensor reaches past its storage. Received: shape={shape}, strides={strides}"
        )
    strides = tuple(step * storage.itemsize for step in strides)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(storage[offset:], shape, strides))
