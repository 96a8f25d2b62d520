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

from tfqreg.layers.activation import QuantizedActivation, first_samples
from tfqreg.optimizers.quadratic import (
    nearest_codes,
    normal_equations,
    sign_table,
    solve_coordinates,
)
from tfqreg.quantizers.base import check_bits

MOMENTUM = 0.99
FIRST_FITS = 20


def fit_levels(x: Any, reference: Any, coordinates: Any) -> tuple[Any, Any]:
    """Returns x_ref () and gamma (bases,) of least squared error, with each element on the side it
    is on now.

    Args:
        x: activations, any shape.
        reference, coordinates: the levels that decide the sides.
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
class MultiBitActivation(QuantizedActivation):
    """Rounds activations to `x_ref + sum_i +-gamma_i`, whose levels follow the data; experimental,
    not for export.

    The levels start from the first training batch, or from `tfqreg.calibrate(model, data)`; until
    then the layer passes its input through. An integer tensor has even levels, these do not: the
    export refuses the layer.

    Args:
        bits: binary vectors, 1 to 4; 2 by default.

    Raises:
        ValueError: for bits out of range.

    Example:
        >>> import numpy as np
        >>> layer = MultiBitActivation(bits=1)
        >>> layer.assign_grid(2.0, [0.5])
        >>> np.asarray(layer(np.float32([[0.0, 1.9, 2.1]])))
        array([[1.5, 1.5, 2.5]], dtype=float32)

    Reference: Qu et al. 2020, arXiv 1912.08883; running averages: Zhang et al. 2018, arXiv
    1807.10029, section 3.3.
    """

    def __init__(self, bits: int = 2, **kwargs: Any) -> None:
        check_bits(bits, "MultiBitActivation", highest=4)
        super().__init__(bits, signed=False, **kwargs)
        self.log2_scale.trainable = False
        self.reference = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="reference"
        )
        self.coordinates = self.add_weight(
            shape=(bits,), initializer="zeros", trainable=False, name="coordinates"
        )

    def fit_grid(self, x: Any, centred: bool = False) -> tuple[Any, Any]:
        """Returns x_ref and gamma of a sample of `x`; `centred` changes nothing here.

        Fits in turns never raise the error, so from the best even levels on they end no worse than
        those.
        """
        x = first_samples(x)
        scale, _ = super().fit_grid(x)
        reference = scale * (2.0**self.bits - 1.0) / 2.0
        coordinates = scale * ops.power(2.0, ops.arange(self.bits, dtype="float32") - 1.0)
        for _ in range(FIRST_FITS):
            reference, coordinates = fit_levels(x, reference, coordinates)
        return reference, coordinates

    def assign_grid(self, scale: Any, low: Any) -> None:
        """Sets x_ref, given as `scale`, and gamma, given as `low`."""
        self.reference.assign(scale)
        self.coordinates.assign(low)
        self.base_scale.assign(1.0)  # from here on there are levels

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the quantized activations."""
        if self._observer is not None:
            return self._observer(self, inputs)
        if training:
            self._follow(ops.stop_gradient(inputs))
        return ops.where(self.base_scale > 0, self._quantize(inputs), inputs)

    def _follow(self, x: Any) -> None:
        now = ops.convert_to_tensor(self.reference), ops.convert_to_tensor(self.coordinates)

        def average() -> tuple[Any, Any]:
            found = fit_levels(first_samples(x), *now)
            return tuple(
                MOMENTUM * old + (1.0 - MOMENTUM) * new for old, new in zip(now, found, strict=True)
            )  # type: ignore[return-value]

        self.assign_grid(*ops.cond(self.base_scale > 0, average, lambda: self.fit_grid(x)))

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
            ValueError: always.
        """
        levels = ", ".join(f"{value:.4g}" for value in ops.convert_to_numpy(self.coordinates))
        raise ValueError(
            f"{self.name}: multi-bit activations lie on no integer grid, they are for comparisons "
            f"in float. Quantize "
            f"with a number of bits, activations={self.bits}. Received: coordinates {levels}"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        return {
            key: value
            for key, value in config.items()
            if key not in ("signed", "scale_from", "fixed_scale", "pull", "power_of_two")
        }
