"""Functions of a single number: in integers, tables of 256 entries.

What is outside a function's domain counts as its nearest end: roots and logarithms take a negative
number for zero.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfqreg.graph.affine import constant_operand

Function = Callable[[np.ndarray], np.ndarray]  # float64 in and out, infinite at poles


def _from_zero(function: Function) -> Function:
    return lambda x: function(np.maximum(x, 0.0))


FUNCTIONS_OF_ONE: dict[str, Function] = {
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": _from_zero(np.log),
    "Log10": _from_zero(np.log10),
    "Log1p": lambda x: np.log1p(np.maximum(x, -1.0)),
    "Log2": _from_zero(np.log2),
    "Reciprocal": np.reciprocal,
    "Rsqrt": _from_zero(lambda x: 1.0 / np.sqrt(x)),
    "Sqrt": _from_zero(np.sqrt),
}
NEVER_NEGATIVE = ("Absolute", "Exp", "Rsqrt", "Sqrt", "Square")


def function_of_one(operation: Any) -> Function | None:
    """Returns the function that an operation computes of each element, None for any other.

    Example:
        >>> import keras
        >>> function = function_of_one(keras.ops.exp(keras.Input((2,)))._keras_history.operation)
        >>> function(np.array([0.0])).tolist()
        [1.0]
    """
    name = type(operation).__name__
    if name in FUNCTIONS_OF_ONE:
        return FUNCTIONS_OF_ONE[name]
    constant = constant_operand(operation) if name in ("Divide", "Power", "TrueDivide") else None
    if constant is None or np.size(constant[0]) != 1:
        return None
    number, first = float(ops.convert_to_numpy(constant[0]).item()), constant[1]
    if name != "Power":
        return (lambda x: number / x) if first else None
    if first:
        return lambda x: np.power(number, x)
    return (lambda x: x**number) if number.is_integer() else _from_zero(lambda x: x**number)
