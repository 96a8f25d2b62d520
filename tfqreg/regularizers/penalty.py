"""What a wrapped kernel asks of its regularizer, and copies of what kernels share."""

from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.quantizers.base import check_positive


class Penalty(keras.layers.Layer):
    """Base of the regularizers: a layer that wrappers share and save with the model.

    `scope` says whether the wrappers that were given one object share it ("global") or copy it
    ("layer"); `forward` whether training computes with "quantized" weights or with "float" ones
    until it settles; `trains_scale` whether the penalty's own gradient moves the scale of the grid;
    `started` whether `start_from` has been called, or need not be.
    """

    scope = "global"
    forward = "quantized"
    trains_scale = False
    started = True

    def register(self, quantized_kernel: Any) -> None:
        """Takes note of a `QuantizedKernel` that the penalty acts on.

        Raises:
            ModelError: if the two do not suit.
        """

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns one kernel's part of the cost, a scalar.

        Args:
            quantized_kernel: the `QuantizedKernel`.
            w: its float weights.
        """
        raise NotImplementedError

    @property
    def strength_now(self) -> Any:
        """What the penalty's measure is multiplied by at this moment; 0 by default."""
        return 0.0

    def start(self, pairs: list[tuple[Any, Any]]) -> None:
        """Sets what is learned for the weights as they are when quantization starts.

        Args:
            pairs: the kernels that share this object, each `QuantizedKernel` with its float
                weights.
        """

    def check_schedule(self, total_steps: int, begin: int, end: int) -> None:
        """Checks that what is scheduled fits a training.

        Args:
            total_steps: steps of the training.
            begin: the step from which the weights have a grid, after pruning.
            end: the step at which what is learned but the weights is frozen.

        Raises:
            ModelError: if it does not fit.
        """

    def at_step(self, step: int, total_steps: int) -> None:
        """Moves what is scheduled to a training step."""

    def settle(self) -> None:
        """Holds at full strength what has been learned, for the end of training."""


def copy_of(penalty: Any) -> Any:
    """Returns a penalty of the same configuration, with variables of its own.

    Example:
        >>> from tfqreg.regularizers import MSQE
        >>> copy_of(MSQE(alpha=0.02)).alpha
        0.02
    """
    return type(penalty).from_config(penalty.get_config())


def shared_copy(penalty: Any, copies: dict[int, Any]) -> Any:
    """Returns the one copy of a penalty, so that kernels which share the penalty share its copy.

    Args:
        penalty: what to copy; None stays None.
        copies: the copies made so far, by the id of what they are copies of; a new one is added.

    Example:
        >>> from tfqreg.regularizers import MSQE
        >>> penalty, copies = MSQE(), {}
        >>> shared_copy(penalty, copies) is shared_copy(penalty, copies)
        True
    """
    if penalty is None:
        return None
    return copies.get(id(penalty)) or copies.setdefault(id(penalty), copy_of(penalty))


class ScheduledPenalty(Penalty):
    """Base of the penalties whose coefficient lambda follows a schedule.

        cost = lambda(t) sum_l R_l,    lambda(t) = strength fraction(t / T)

    A subclass implements `measure` and `fraction`, and `register` if its quantizer need be no
    `Uniform`.

    Args:
        strength: lambda at its height, in units of the loss.
        kwargs: of `keras.layers.Layer`.

    Raises:
        ModelError: for a strength that is no positive number.
    """

    def __init__(self, strength: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = check_positive(strength, type(self).__name__, "strength")
        self.weight_strength = self._strength("weight_strength")
        self.built = True

    def _strength(self, name: str) -> keras.Variable:
        return self.add_weight(shape=(), initializer="zeros", trainable=False, name=name)

    def measure(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns R, what lambda multiplies, for one kernel and its float weights."""
        raise NotImplementedError

    def fraction(self, progress: float) -> float:
        """Returns lambda over `strength`, `progress` being the fraction of the training done."""
        raise NotImplementedError

    @property
    def strength_now(self) -> Any:
        """lambda."""
        return ops.convert_to_tensor(self.weight_strength)

    def register(self, quantized_kernel: Any) -> None:
        """Checks that the quantizer of a kernel has a range of codes."""
        if not hasattr(quantized_kernel.quantizer, "smallest_code"):
            raise ModelError(
                quantized_kernel.name,
                f"{type(self).__name__} needs the quantizer Uniform",
                received=f"{quantized_kernel.quantizer!r}",
            )

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns lambda times one kernel's measure."""
        return self.strength_now * self.measure(quantized_kernel, w)

    def at_step(self, step: int, total_steps: int) -> None:
        """Sets lambda for a training step."""
        self.weight_strength.assign(self.strength * self.fraction(step / total_steps))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"name": self.name, "strength": self.strength}


class Pruning(Penalty):
    """Base of what prunes: it acts while more and more weights go, then its mask is final.

    `sparsity` is the fraction of pruned weights to come to; `revives` says whether a pruned weight
    goes on learning until then.
    """

    sparsity: float
    revives = False

    def grid_cost(self, quantized_kernel: Any, w: Any) -> Any:
        """Returns 0: by default the mask does the work."""
        return ops.zeros(())

    def update(self, pairs: list[tuple[Any, Any]], share: float | None) -> None:
        """Moves towards a fraction of pruned weights, by the masks; called every so many steps.

        Args:
            pairs: the kernels that share this object, each `QuantizedKernel` with its float
                weights.
            share: the fraction of pruned weights to stand at now; None leaves it where it is.
        """
        for quantized_kernel, _ in pairs:
            quantized_kernel.start_pruning()
        if share is not None:
            for (quantized_kernel, _), mask in zip(
                pairs, self.final_masks(pairs, share), strict=True
            ):
                quantized_kernel.mask.assign(mask)

    def final_masks(self, pairs: list[tuple[Any, Any]], share: float) -> list[Any]:
        """Returns, for each kernel, the boolean array of the weights that stay."""
        raise NotImplementedError
