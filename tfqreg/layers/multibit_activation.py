r"""Activations as a reference and few binary vectors: levels that lie on no even grid.

    x_hat = x_ref + sum_i gamma_i D_i,    D_i in {-1, 1},    gamma >= 0

Each element takes the nearest of the 2^I levels. On every training batch x_ref and gamma are fitted
to the elements by least squares with D as it is, and running averages of them are what the layer
computes with, as BatchNormalization does with its statistics. Straight-through between the lowest
and the highest level, 0 outside: a ReLU is among it.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.layers.activation import first_samples, fit_grid
from tfqreg.layers.activation_quantizer import ActivationQuantizer
from tfqreg.optimizers.quadratic import (
    nearest_codes,
    normal_equations,
    sign_table,
    solve_coordinates,
)
from tfqreg.quantizers.base import check_bits

# Of the running averages, as of Keras' BatchNormalization: they follow about the last 100 batches.
MOMENTUM = 0.99
# Fits in turns from the best even levels on. Each lowers the error or leaves it; they run once, so
# that a few too many cost little.
FIRST_FITS = 20


def fit_levels(x: Any, reference: Any, coordinates: Any) -> tuple[Any, Any]:
    """Returns x_ref () and gamma (bases,) of least squared error, each element staying on its side.

    Args:
        x: activations, any shape.
        reference: x_ref of the levels that decide the sides.
        coordinates: their gamma.
    """
    x = ops.reshape(x, (1, 1, -1))
    codes = nearest_codes(x - reference, ops.reshape(coordinates, (1, 1, -1)))
    table = sign_table(coordinates.shape[0])
    table = np.concatenate(
        [np.ones_like(table[:1]), table]
    )  # the reference counts for every element
    valid = ops.ones((1, 1, len(table)), "bool")
    solved = solve_coordinates(*normal_equations(x, ops.ones_like(x), codes, table, valid), valid)[
        0, 0
    ]
    return solved[0], ops.abs(solved[1:])


@keras.saving.register_keras_serializable(package="tfqreg")
class MultiBitActivation(ActivationQuantizer):
    """Rounds activations to `x_ref + sum_i +-gamma_i`, levels that follow the data; experimental.

    The levels start from the first training batch, or from `tfqreg.calibrate(model, data)`; until
    then the layer passes its input through. An integer tensor has even levels, these do not: the
    export refuses the layer. Inputs and outputs are of the same shape, any.

    Args:
        bits: binary vectors, 1 to 4; 2 by default.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for bits out of range, or a policy of mixed precision.

    Example:
        >>> import numpy as np
        >>> layer = MultiBitActivation(bits=1)
        >>> layer.assign_levels(2.0, [0.5])
        >>> np.asarray(layer(np.float32([[0.0, 1.9, 2.1]])))
        array([[1.5, 1.5, 2.5]], dtype=float32)

    Reference: Qu et al. 2020, arXiv 1912.08883; running averages: Zhang et al. 2018, arXiv
    1807.10029, section 3.3.
    """

    def __init__(self, bits: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = check_bits(bits, "MultiBitActivation", highest=4)
        self.started, self.reference, self.coordinates = (
            self.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)
            for name, shape in (("started", ()), ("reference", ()), ("coordinates", (bits,)))
        )
        self.built = True

    @property
    def has_levels(self) -> Any:
        """Whether data has set the levels, a boolean tensor ()."""
        return self.started > 0

    def first_levels(self, x: Any) -> tuple[Any, Any]:
        """Returns x_ref and gamma that suit a sample of `x`, starting from the best even levels.

        Fits in turns never raise the error, so they end no worse than those.
        """
        x = first_samples(x)
        scale, _ = fit_grid(x, self.bits, signed=False)
        reference = scale * (2.0**self.bits - 1.0) / 2.0
        coordinates = scale * ops.power(2.0, ops.arange(self.bits, dtype="float32") - 1.0)
        for _ in range(FIRST_FITS):
            reference, coordinates = fit_levels(x, reference, coordinates)
        return reference, coordinates

    def assign_levels(self, reference: Any, coordinates: Any) -> None:
        """Sets x_ref (), and gamma (bases,)."""
        self.reference.assign(reference)
        self.coordinates.assign(coordinates)
        self.started.assign(1.0)

    def calibrate(self, x: Any) -> None:
        """Sets the levels to `first_levels` of activations `x`, samples first."""
        self.assign_levels(*self.first_levels(x))

    def _in_training(self, x: Any) -> Any:
        held = ops.stop_gradient(x)
        now = ops.convert_to_tensor(self.reference), ops.convert_to_tensor(self.coordinates)

        def average() -> tuple[Any, Any]:
            reference, coordinates = (
                MOMENTUM * old + (1.0 - MOMENTUM) * new
                for old, new in zip(now, fit_levels(first_samples(held), *now), strict=True)
            )
            return reference, coordinates

        self.assign_levels(*ops.cond(self.has_levels, average, lambda: self.first_levels(held)))
        return self._quantize(x)

    def _quantize(self, x: Any) -> Any:
        reference, coordinates = (
            ops.convert_to_tensor(self.reference),
            ops.convert_to_tensor(self.coordinates),
        )
        flat = ops.reshape(ops.stop_gradient(x) - reference, (1, 1, -1))
        codes = nearest_codes(flat, ops.reshape(coordinates, (1, 1, -1)))
        levels = reference + ops.take(
            ops.matmul(coordinates, sign_table(self.bits)), ops.reshape(codes, ops.shape(x))
        )
        within = ops.cast(
            ops.abs(ops.stop_gradient(x) - reference) <= ops.sum(coordinates), x.dtype
        )
        passed = x * within
        return passed + ops.stop_gradient(levels - passed)

    def encode(self) -> tuple[float, int]:
        """Raises: the levels lie on no integer grid.

        Raises:
            ModelError: always.
        """
        levels = ", ".join(f"{value:.4g}" for value in ops.convert_to_numpy(self.coordinates))
        raise ModelError(
            self.name,
            "multi-bit activations lie on no integer grid, they are for comparisons in float",
            f"Quantize with a number of bits, activations={self.bits}",
            f"coordinates {levels}",
        )

    def load_own_variables(self, store: Any) -> None:
        """Reads the variables; files of the first releases hold those of an even grid beside them.

        There `base_scale` said whether the levels were set: log2_scale, base_scale, low, reference,
        coordinates.
        """
        if len(store.keys()) == 5:
            store = {str(i): store[key][()] for i, key in enumerate(("1", "3", "4"))}
        super().load_own_variables(store)
