r"""Multi-bit weights: every group of weights is a sum of few binary vectors.

    w_g = sum_{i<=I_g} alpha_{g,i} B_{g,i},    B in {-1, 1}^{I_g x n_g},    alpha >= 0

I_g differs from group to group and may be 0. Nothing is rounded and no float weights are kept:
basis and coordinates are what `tfqreg.ALQ` trains. After `project`, coordinates are whole numbers
of a unit u, one for each output channel:

    w_g = u sum_i round(alpha_{g,i} / u) B_{g,i}
"""

from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import Params, Quantizer, State, check_bits, straight_through
from tfqreg.quantizers.groups import STRUCTURES, WeightGroups, groups_of
from tfqreg.quantizers.integer_alpha import LARGEST_CODE, integer_units
from tfqreg.quantizers.sketching import sketch

# True while `ALQ` takes its step: what any other optimizer does to multi-bit weights is refused.
ALQ_AT_WORK: ContextVar[bool] = ContextVar("alq_at_work", default=False)


@keras.saving.register_keras_serializable(package="tfqreg")
class MultiBit(Quantizer):
    """Sums of binary vectors, as many as each group needs; train it with `ALQ` and `ALQRounds`.

        w_g = sum_{i<=I_g} alpha_{g,i} B_{g,i},    B in {-1, 1}^{I_g x n_g},    alpha >= 0

    for a kernel of any shape, cut into groups. The state is the weights: `q(w)` takes only the
    gradient from `w`. The groups of "auto" are the paper's; those of "channelwise" make the
    smallest containers, because the codes of one group fill whole rows there.

    Args:
        structure: how a kernel falls into groups, see `tfqreg.quantizers.groups`; "auto" by
            default.
        subchannels: parts of an output channel for structure "subchannel"; the fewest of 512
            weights by default.
        bases: the most binary vectors of a group, 1 to 8; 6 by default.
        tolerance: error that whole-number coordinates may add, as a fraction of the coordinates;
            0.02 by default.

    Raises:
        ModelError: for an unknown structure, bases out of range, or a tolerance that is not in (0,
            1).

    Example:
        >>> import numpy as np
        >>> w = np.float32([[0.5, 1.0], [-1.5, -1.0], [1.5, 1.0]])
        >>> quantizer = MultiBit(bases=2)
        >>> state = quantizer.fit_state(w, (1,))
        >>> state["valid"].sum(-1).tolist()
        [[2], [1]]
        >>> state |= quantizer.project(state)
        >>> quantizer.encode(w, state)[0].tolist()
        [[1, 1], [-3, -1], [3, 1]]

    Reference: Qu et al. 2020, arXiv 1912.08883.
    """

    has_zero = False
    prunable = False

    def __init__(
        self,
        structure: str = "auto",
        subchannels: int | None = None,
        bases: int = 6,
        tolerance: float = 0.02,
    ) -> None:
        if structure not in STRUCTURES:
            raise ModelError(
                "MultiBit",
                f"`structure` is one of {', '.join(STRUCTURES)}",
                received=f"structure={structure!r}",
            )
        if subchannels is not None and (structure != "subchannel" or subchannels < 1):
            raise ModelError(
                "MultiBit",
                '`subchannels` is a positive number for structure="subchannel" alone',
                received=f"structure={structure!r}, subchannels={subchannels!r}",
            )
        if not 0.0 < tolerance < 1.0:
            raise ModelError(
                "MultiBit", "`tolerance` is between 0 and 1", received=f"tolerance={tolerance!r}"
            )
        self.structure, self.subchannels, self.tolerance = structure, subchannels, tolerance
        self.bases = self.bits = check_bits(
            bases, "MultiBit: `bases` are counted in bits", highest=8
        )

    def groups(self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]) -> WeightGroups:
        """Returns how a kernel is cut into groups."""
        return groups_of(tuple(kernel_shape), axes, self.structure, self.subchannels)

    def claim(self, quantized_kernel: Any, weights: keras.Variable) -> None:
        """Marks a kernel's weights as ones that `ALQ` alone may train."""
        try:
            self.groups(tuple(weights.shape), quantized_kernel.axes)
        except ModelError as error:
            raise ModelError(weights.path, error.rule, error.fix, error.received) from None
        if weights.constraint is not None:
            raise ModelError(
                weights.path,
                "multi-bit weights take no constraint",
                "Leave `kernel_constraint` out",
                f"{weights.constraint}",
            )

        def only_alq(w: Any) -> Any:
            # Optimizers apply a variable's constraint right after their step, so another one is
            # found at its first.
            if not ALQ_AT_WORK.get():
                raise ModelError(
                    weights.path,
                    "only ALQ trains multi-bit weights, any other optimizer leaves them as they "
                    "are",
                    "Compile the model with tfqreg.ALQ, or give this layer another quantizer",
                )
            return w

        weights.constraint = only_alq
        weights.multibit = quantized_kernel

    def state_shapes(
        self, kernel_shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of `basis`, `alpha` and `valid` by groups, of `unit` by channels."""
        groups = self.groups(kernel_shape, axes)
        one = (groups.channels, groups.parts, self.bases)
        unit = tuple(size if axis in axes else 1 for axis, size in enumerate(kernel_shape))
        return {"basis": (*one, groups.size), "alpha": one, "valid": one, "unit": unit}

    def state_dtype(self, name: str) -> str:
        """Returns int8 for `basis`, bool for `valid`, else float32."""
        return {"basis": "int8", "valid": "bool"}.get(name, "float32")

    def fit_state(self, w: Any, axes: tuple[int, ...], mask: Any = None) -> State:
        """Returns the sketch of `w`, on no grid yet: `unit` is 0."""
        groups = self.groups(tuple(w.shape), axes)
        basis, alpha, valid = sketch(
            ops.convert_to_numpy(groups.split(ops.convert_to_tensor(w))), self.bases
        )
        unit = np.zeros(self.state_shapes(tuple(w.shape), axes)["unit"], np.float32)
        return {"basis": basis, "alpha": alpha, "valid": valid, "unit": unit}

    def on_grid(self, state: State) -> bool:
        """Returns whether the coordinates are whole numbers of a unit."""
        return bool(ops.all(ops.convert_to_tensor(state["unit"]) > 0))

    def project(self, state: State) -> State:
        """Returns the `unit` that makes the coordinates whole, see `integer_units`."""
        shape = tuple(state["unit"].shape)
        return {
            "unit": integer_units(ops.convert_to_numpy(state["alpha"]), self.tolerance).reshape(
                shape
            )
        }

    def sums(self, state: State) -> tuple[Any, Any]:
        """Returns `sum_i alpha_i B_i` by groups, in units of the grid, and those units.

        The unit is 1 where there is no grid.
        """
        unit = ops.reshape(ops.convert_to_tensor(state["unit"]), (-1, 1, 1))
        on_grid = unit > 0
        unit = ops.where(on_grid, unit, 1.0)
        alpha = ops.convert_to_tensor(state["alpha"])
        alpha = ops.where(on_grid, ops.round(alpha / unit), alpha)
        sums = combine(alpha, ops.cast(ops.convert_to_tensor(state["basis"]), "float32"))
        limit = ops.where(on_grid, float(LARGEST_CODE), np.inf)
        return ops.clip(sums, -limit, limit), unit

    def nearest(self, w: Any, state: State) -> Any:
        """Returns the weights that the state holds."""
        sums, unit = self.sums(state)
        return self._kernel(sums * unit, w, state)

    def __call__(self, w: Any, state: State) -> Any:
        """Returns the weights that the state holds, with the gradient of `w`."""
        return straight_through(self.nearest(w, state), w)

    def _kernel(self, groups: Any, w: Any, state: State) -> Any:
        # An axis of size 1 on both sides may count as one of the channels: it moves no weight.
        axes = tuple(axis for axis, size in enumerate(state["unit"].shape) if size == w.shape[axis])
        return self.groups(tuple(w.shape), axes).join(groups)

    def encode(self, w: Any, state: State) -> tuple[np.ndarray, Params]:
        """Returns int8 codes and `{"scale": float32, "bits": int}`, bits with the sign.

        Before `project` they are those that it would give: near the weights, not equal to them.
        """
        if not self.on_grid(state):
            state = {**state, **self.project(state)}
        codes = ops.convert_to_numpy(self._kernel(self.sums(state)[0], w, state)).astype(np.int8)
        bits = 1 + int(np.abs(codes.astype(int)).max()).bit_length()
        return codes, {"scale": ops.convert_to_numpy(state["unit"]), "bits": bits}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            "structure": self.structure,
            "subchannels": self.subchannels,
            "bases": self.bases,
            "tolerance": self.tolerance,
        }


def bases_per_weight(state: State) -> float:
    """Returns the bases per weight of a kernel, on average."""
    # All groups of a kernel are of one size, so their mean is that of the weights.
    return float(np.mean(np.sum(ops.convert_to_numpy(state["valid"]), axis=-1)))


def combine(alpha: Any, basis: Any) -> Any:
    """Returns `sum_i alpha_i B_i`: (..., bases) and (..., bases, size) give (..., size)."""
    return ops.squeeze(ops.matmul(ops.expand_dims(alpha, -2), basis), -2)
