"""What a delta takes from the file before it: tensors by name, and runs of unchanged bytes."""

from collections.abc import Iterator

import numpy as np

from ..tflite.locate import Constant, locate

# A BASE span takes about 6 bytes, and cuts the literals in two.
MIN_RUN_BYTES = 24


class Predecessor:
    """The base of a delta.

    Args:
        tflite: the file before, whole.

    Raises:
        ContainerError: `tflite` is not a `.tflite`.
    """

    def __init__(self, tflite: bytes) -> None:
        self.tflite = tflite
        self._constants: dict[tuple, Constant] = {}
        for constant in locate(tflite)[0]:
            self._constants.setdefault(_key(constant), constant)
        self._lag = 0

    def find(self, constant: Constant) -> Constant | None:
        """Returns the tensor of the same name, shape and width, if the base has one."""
        found = self._constants.get(_key(constant))
        if found:
            self._lag = found.start - constant.start
        return found

    def bytes_of(self, constant: Constant) -> bytes:
        """Returns the bytes of one of the base's tensors."""
        return self.tflite[constant.start : constant.start + constant.size]

    def same(self, constant: Constant, data: bytes) -> int | None:
        """Returns where the base holds the same bytes in the tensor of the same name, or None."""
        found = self.find(constant)
        unchanged = (
            found is not None and found.size >= MIN_RUN_BYTES and self.bytes_of(found) == data
        )
        return found.start if found and unchanged else None

    def runs(
        self, tflite: bytes, start: int, end: int, after: int | None
    ) -> Iterator[tuple[int, int | None]]:
        """Cuts bytes of the new file into (size, place in the base or None), in order.

        Args:
            tflite: the new file.
            start, end: which of its bytes.
            after: where in the base the span before ends, if it is a BASE span: going on from there
                costs nothing.
        """
        lag = self._lag if start + self._lag >= 0 and end + self._lag <= len(self.tflite) else 0
        new = np.frombuffer(tflite, np.uint8)[start:end]
        old = np.frombuffer(self.tflite, np.uint8)[start + lag : end + lag]
        equal = np.zeros(len(new) + 2, bool)
        equal[1 : 1 + len(old)] = new[: len(old)] == old
        edges = np.flatnonzero(np.diff(equal))
        done = 0
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if last - first >= MIN_RUN_BYTES or (first == 0 and start + lag == after):
                yield first - done, None
                yield last - first, start + lag + first
                done = last
        yield len(new) - done, None


def _key(constant: Constant) -> tuple:
    return constant.name, constant.shape, constant.width, constant.size
