"""Operations that compute `gain * x + offset` with constants.

Those are Rescaling, Normalization, and arithmetic with a constant such as `x + 3` or `x / 6`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

ARITHMETIC = ("Add", "Divide", "Multiply", "Negative", "Subtract", "TrueDivide")


def constant_operand(operation: Any) -> tuple[Any, bool] | None:
    """Returns the constant of an operation on one tensor and one constant; None for any other.

    Returns:
        The constant, and whether it comes before the tensor.
    """
    if isinstance(operation, keras.layers.Layer) or not operation._inbound_nodes:
        return None
    arguments = operation._inbound_nodes[0].arguments
    operands = [
        *arguments.args,
        *(arguments.kwargs[name] for name in ("x1", "x2") if name in arguments.kwargs),
    ]
    symbolic = [isinstance(operand, keras.KerasTensor) for operand in operands[:2]]
    if sum(symbolic) != 1 or len(symbolic) != 2:
        return None
    return operands[symbolic.index(False)], symbolic[1]


def affine_of(operation: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns gain and offset of a layer or operation that computes `gain * x + offset`, or None.

    Both are float64, of one element or of one per channel (the last axis).

    Example:
        >>> import keras
        >>> gain, offset = affine_of(keras.layers.Rescaling(0.5, offset=-1.0))
        >>> float(gain), float(offset)
        (0.5, -1.0)
    """
    found = _affine(operation)
    if found is None:
        return None
    vectors = [_by_channel(x) for x in found]
    return None if vectors[0] is None or vectors[1] is None else (vectors[0], vectors[1])


def _affine(operation: Any) -> tuple[Any, Any] | None:
    if isinstance(operation, keras.layers.Rescaling):
        return operation.scale, operation.offset
    if isinstance(operation, keras.layers.Normalization):
        return _normalization(operation)
    name = type(operation).__name__
    if name == "Negative":
        return -1.0, 0.0
    constant = constant_operand(operation)
    if name not in ARITHMETIC or constant is None:
        return None
    value, first = constant
    value = ops.convert_to_numpy(value).astype(np.float64)
    if name == "Add":
        return 1.0, value
    if name == "Subtract":
        return (-1.0, value) if first else (1.0, -value)
    if name == "Multiply":
        return value, 0.0
    return None if first else (1.0 / value, 0.0)


def _normalization(layer: Any) -> tuple[Any, Any] | None:
    if layer.mean is None:
        return None
    mean = ops.convert_to_numpy(layer.mean).astype(np.float64)
    deviation = np.sqrt(ops.convert_to_numpy(layer.variance).astype(np.float64))
    deviation = np.maximum(deviation, keras.backend.epsilon())
    return (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)


def _by_channel(x: Any) -> np.ndarray | None:
    """Returns one element or one per channel; None if that is too few, or one is not finite."""
    values = np.asarray(x, np.float64)
    if not np.isfinite(values).all() or values.size != (values.shape or (1,))[-1]:
        return None
    alike = (values == values.flat[0]).all()
    return values.reshape(-1)[0] * np.ones(()) if alike else values.reshape(-1)


def is_scale(operation: Any) -> bool:
    """Returns whether an operation only multiplies by one positive number.

    Then the codes stay and the scale changes.

    Example:
        >>> is_scale(keras.layers.Rescaling(0.5)), is_scale(keras.layers.Rescaling([0.5, 0.25]))
        (True, False)
    """
    found = affine_of(operation)
    return found is not None and found[0].ndim == 0 and bool(found[0] > 0) and not found[1].any()
