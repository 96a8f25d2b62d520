"""Where a `.tflite` keeps its constants, read with the flatbuffer schema."""

from dataclasses import dataclass
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..format.elements import tensor_bytes
from ..format.errors import ContainerError
from ..format.index import MAX_RANK

# Bytes 4 to 7 of every `.tflite`.
IDENTIFIER = b"TFL3"
_T = schema.TensorType
# Bits of an element and whether its code is read as signed. Other types stay literals.
ELEMENT_TYPES = {
    _T.INT2: (2, True),
    _T.INT4: (4, True),
    _T.UINT4: (4, False),
    _T.INT8: (8, True),
    _T.UINT8: (8, False),
    _T.BOOL: (8, False),
    _T.INT16: (16, True),
    _T.UINT16: (16, False),
    _T.FLOAT16: (16, True),
    _T.BFLOAT16: (16, True),
    _T.INT32: (32, True),
    _T.UINT32: (32, False),
    _T.FLOAT32: (32, True),
}


@dataclass(frozen=True)
class Constant:
    """An array of `size` bytes at `start`: a tensor's data, or its scales or zero points.

    Args:
        name: of the tensor, with " scale" or " zero point" for its quantization.
        start, size: place in the file, in bytes.
        shape: dimensions, whose product fits `size`.
        width: bits of an element.
        signed: whether codes are read as two's complement.
    """

    name: str
    start: int
    size: int
    shape: tuple[int, ...]
    width: int
    signed: bool


@dataclass(frozen=True)
class Product:
    """A float32 array of `size` bytes at `start`: float32 at `scalar` times those at `array`."""

    start: int
    size: int
    scalar: int
    array: int


def locate(tflite: bytes) -> tuple[list[Constant], list[Product]]:
    """Returns the constants of a `.tflite` and the bias scales that follow from others.

    Args:
        tflite: the whole file.

    Returns:
        Constants by place, not overlapping, and products.

    Raises:
        ContainerError: not a `.tflite`, or one whose tables point outside the file.
    """
    if tflite[4:8] != IDENTIFIER:
        raise ContainerError(
            f"byte 4: the file has identifier {tflite[4:8]!r} instead of {IDENTIFIER!r}. Give a "
            ".tflite file."
        )
    scan = _Scan(tflite)
    try:
        scan.run()
    # The generated reader trusts the file: a bad offset surfaces as whatever numpy or struct makes
    # of it.
    except Exception as error:
        raise ContainerError(
            f"the .tflite cannot be read ({error}). Check it with the TFLite interpreter."
        ) from error
    constants: list[Constant] = []
    end = 0
    for constant in sorted(scan.constants.values(), key=lambda c: c.start):
        if constant.start >= end:
            constants.append(constant)
            end = constant.start + constant.size
    return constants, scan.products


class _Scan:
    """Collects the constants of one file."""

    def __init__(self, tflite: bytes) -> None:
        self.file = np.frombuffer(tflite, np.uint8)
        self.origin = self.file.__array_interface__["data"][0]
        # Any: the generated reader types every field as optional, and locate() reports one that is
        # missing.
        self.model: Any = schema.Model.GetRootAs(tflite)
        self.constants: dict[int, Constant] = {}
        self.products: list[Product] = []

    def run(self) -> None:
        for number in range(self.model.SubgraphsLength()):
            graph = self.model.Subgraphs(number)
            tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
            for tensor in tensors:
                self._tensor(tensor)
            for index in range(graph.OperatorsLength()):
                operator = graph.Operators(index)
                inputs = [operator.Inputs(place) for place in range(operator.InputsLength())]
                self._bias_scales([tensors[place] for place in inputs if place >= 0])

    def _tensor(self, tensor: Any) -> None:
        name = (tensor.Name() or b"").decode(errors="replace")
        shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
        buffer = self.model.Buffers(tensor.Buffer())
        if buffer.DataLength() and tensor.Type() in ELEMENT_TYPES:
            self._constant(name, buffer.DataAsNumpy(), shape, *ELEMENT_TYPES[tensor.Type()])
        quantization = tensor.Quantization()
        if quantization and quantization.ScaleLength():
            shape = (quantization.ScaleLength(),)
            self._constant(f"{name} scale", quantization.ScaleAsNumpy(), shape, 32, True)
        if quantization and quantization.ZeroPointLength():
            points, shape = quantization.ZeroPointAsNumpy(), (quantization.ZeroPointLength(),)
            self._constant(f"{name} zero point", points, shape, 64, True)

    def _constant(
        self, name: str, data: np.ndarray, shape: tuple[int, ...], width: int, signed: bool
    ) -> None:
        start = self._place(data)
        # Nibbles left over in the last byte must be zero to be restored.
        spare = prod(shape) * width % 8
        fits = 1 <= len(shape) <= MAX_RANK and tensor_bytes(shape, width) == data.nbytes
        if not fits or (spare and data[-1] >> spare):
            shape, width = (data.nbytes,), 8
        self.constants.setdefault(start, Constant(name, start, data.nbytes, shape, width, signed))

    def _place(self, data: np.ndarray) -> int:
        return data.__array_interface__["data"][0] - self.origin

    def _bias_scales(self, inputs: list[Any]) -> None:
        """Finds input b whose scales are the one scale of input x times the scales of input w."""
        scales = {
            index: scale for index, scale in enumerate(map(_scales, inputs)) if scale is not None
        }
        for x, w, b in permutations(scales, 3):
            if len(scales[x]) == 1 and len(scales[w]) == len(scales[b]) > 1:
                product = scales[x] * scales[w]
                # Subnormal results may be flushed to zero on a phone, and the bits of a NaN are
                # any.
                safe = (
                    np.isfinite(product).all()
                    and (np.abs(product) >= np.finfo(np.float32).tiny).all()
                )
                if safe and product.tobytes() == scales[b].tobytes():
                    places = [self._place(scales[index]) for index in (b, x, w)]
                    self.products.append(Product(places[0], scales[b].nbytes, places[1], places[2]))
                    return


def _scales(tensor: Any) -> np.ndarray | None:
    quantization = tensor.Quantization()
    return quantization.ScaleAsNumpy() if quantization and quantization.ScaleLength() else None
