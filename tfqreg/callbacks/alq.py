"""`ALQRounds`: rounds of bases, coordinates and pruning, then the way to weights of integers."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import keras
from keras import ops

from tfqreg.callbacks.alq_phases import Phase, phases
from tfqreg.callbacks.progress import Progress
from tfqreg.errors import ModelError
from tfqreg.norms import fixed_mode, norms_of
from tfqreg.optimizers import ALQ, Mode
from tfqreg.projection import project, projected
from tfqreg.pruning.bases import (
    Candidates,
    average_bits,
    delete,
    increase,
    multibit_kernels,
    to_delete,
)

# A kernel may shrink this many times as fast as all of them together, as published (p_r /
# iterations over top_k).
FASTEST = 2.7
# Bounds how often the size is measured once pruning is over. Each try deletes one base at least,
# and all of the excess if bytes are proportional to bits: they are not if this is not enough.
TRIES = 20


class ALQRounds(Progress):
    """Takes multi-bit weights to an average bit width, or to bytes, and onto integers.

    | fraction of the training | what happens |
    |---|---|
    | 0 to `rounds_until` | `rounds` times: basis steps, coordinate steps, pruning of bases |
    | to `ste_until` | basis steps around float weights, straight through |
    | to `coordinate_until` | coordinate steps |
    | to the end | coordinate steps among whole numbers of a unit per output channel |

    Pruning deletes the bases that cost the loss least for the bits they take, a constant fraction
    of what there is at each step, such that the last step arrives at the target;
    BatchNormalization computes with its moving statistics meanwhile. The callback holds no state: a
    saved training resumes exactly in any phase. `deviation` reports, by "layer/kernel", the largest
    change of a weight when coordinates become whole.

    Args:
        bits: average bases per weight to end with; or
        size_bytes: a size to end with at most, and
        size: the callable that returns the bytes of a model, `tfqreg.export.container_size` for
            one. It sees the model on its integer grid.
        rounds: how many rounds there are; 4 by default.
        split: how a round divides into basis, coordinate and pruning steps; (2, 1, 1) by default.
        rounds_until: fraction of the training after which the rounds end; 0.62 by default. This
            and the next are the published epochs, with our last phase after them.
        ste_until: fraction after which the straight-through phase ends; 0.86 by default.
        coordinate_until: fraction after which coordinates are whole numbers; 0.95 by default.
        decay: factor by which the optimizer's rate falls within each round, and again after them;
            0.05 by default.
        floor: average bits that no kernel is pruned below; 0.02 by default. One base is always
            kept.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ModelError: for targets or fractions out of range, an optimizer that is not `ALQ` or has a
            schedule for a rate, and a model without multi-bit weights, when training starts.

    Example:
        >>> ALQRounds(bits=0.5, rounds=2).bits
        0.5

    Reference: Qu et al. 2020, arXiv 1912.08883, algorithm 1 and section 5.
    """

    def __init__(
        self,
        bits: float | None = None,
        size_bytes: int | None = None,
        size: Callable[[keras.Model], int] | None = None,
        rounds: int = 4,
        split: tuple[float, float, float] = (2, 1, 1),
        rounds_until: float = 0.62,
        ste_until: float = 0.86,
        coordinate_until: float = 0.95,
        decay: float = 0.05,
        floor: float = 0.02,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(total_steps)
        if (bits is None) == (size_bytes is None) or (size_bytes is None) != (size is None):
            raise _refused(
                "give `bits`, or `size_bytes` together with `size`",
                f"bits={bits}, size_bytes={size_bytes}, size={size}",
            )
        if not (bits or size_bytes or 0) > 0:
            raise _refused("the target is above 0", f"bits={bits}, size_bytes={size_bytes}")
        if not 0.0 < rounds_until <= ste_until <= coordinate_until <= 1.0:
            raise _refused(
                "fractions must rise, 0 < rounds_until <= ste_until <= coordinate_until <= 1",
                f"{rounds_until}, {ste_until}, {coordinate_until}",
            )
        if rounds < 1 or len(split) != 3 or min(split) < 0 or split[2] <= 0:
            raise _refused(
                "one round at least, of three parts, the last above 0",
                f"rounds={rounds}, split={split}",
            )
        if not 0.0 < decay <= 1.0 or not 0.0 <= floor < 1.0:
            raise _refused("0 < decay <= 1 and 0 <= floor < 1", f"decay={decay}, floor={floor}")
        self.bits, self.size_bytes, self.size = bits, size_bytes, size
        self.rounds, self.split, self.decay, self.floor = rounds, split, decay, floor
        self.ends = (rounds_until, ste_until, coordinate_until)
        self.deviation: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels and phases; raises ModelError if model and optimizer do not match."""
        super().on_train_begin(logs)
        self.pairs = multibit_kernels(self.model)
        optimizer = self.model.optimizer
        if not isinstance(optimizer, ALQ):
            raise ModelError(
                "ALQRounds",
                f"only ALQ trains the multi-bit weights of {', '.join(self.pairs)}",
                "Compile the model with tfqreg.ALQ",
                type(optimizer).__name__,
            )
        if not isinstance(optimizer.initial_rate, int | float):
            raise _refused(
                "it sets the learning rate itself, which cannot be a schedule",
                f"learning_rate={optimizer.initial_rate!r}",
            )
        # The first phase sets its mode; if it is built already this returns at once.
        optimizer.build(self.model.trainable_variables)
        self.phases = phases(self.total, self.rounds, self.split, self.ends, self.decay)
        quantized_kernels = [quantized_kernel for quantized_kernel, _ in self.pairs.values()]
        self.weight_count = sum(each.count for each in quantized_kernels)
        largest = max(each.state["basis"].shape[-1] for each in quantized_kernels)
        self.largest_base = largest / self.weight_count  # in average bits
        self.norms = norms_of(self.model)
        self.norms_held = False
        self.release_norms = ExitStack()
        self.train_functions: dict[bool, Any] = {}

    def phase_at(self, step: int) -> Phase:
        """Returns the phase that a step is in."""
        return next((phase for phase in self.phases if step < phase.stop), self.phases[-1])

    def on_step(self, step: int, last: int) -> None:
        """Sets the mode and the rate, and prunes when it is time to."""
        phase = self.phase_at(step)
        optimizer = self.model.optimizer
        optimizer.learning_rate = optimizer.initial_rate * phase.factor(step)
        optimizer.mode.assign(int(phase.mode))
        self._hold_norms(phase.mode == Mode.PRUNE)
        if phase.mode == Mode.PRUNE:
            if last < phase.start:
                self._set_goal()
            self._prune(step, phase, step - last)
        if phase.name == "integer" and last < phase.start:
            self.deviation |= project(self.model)

    def on_train_end(self, logs: Any = None) -> None:
        """Releases BatchNormalization; puts weights on integers if the training is over."""
        self._hold_norms(False)
        if self.last_step + 1 >= self.total:
            self.deviation |= project(self.model)
            self._reach_size()  # what was trained since the last pruning may take other codes

    def _hold_norms(self, hold: bool) -> None:
        """Has BatchNormalization compute with moving statistics, or with those of the batch again.

        Keras fixes that when it traces a step, so there are two functions, each traced once.
        """
        if hold == self.norms_held or not self.norms:
            return
        self.train_functions[self.norms_held] = self.model.train_function
        self.norms_held = hold
        if hold:
            self.release_norms.enter_context(fixed_mode(self.norms, training=False))
        else:
            self.release_norms.close()
        if hold in self.train_functions:
            self.model.train_function = self.train_functions[hold]
        else:
            self.model.make_train_function(force=True)

    def _set_goal(self) -> None:
        goal = self.bits
        if self.size is not None and self.size_bytes is not None:
            with projected(self.model):
                size = self.size(self.model)
            # At most as many bits as now: a model that is small enough already keeps them.
            goal = average_bits(self.model)["total"] * min(self.size_bytes / size, 1.0)
        self.model.optimizer.bits_goal.assign(goal)
        self.model.optimizer.bits_planned.assign(average_bits(self.model)["total"])

    def _prune(self, step: int, phase: Phase, stride: int) -> None:
        """Deletes a constant fraction of the bits, so that the last pruning step is at the goal.

        Args:
            step: the one that comes.
            phase: the one it is in.
            stride: steps from one call to the next.
        """
        optimizer = self.model.optimizer
        goal, planned = _float(optimizer.bits_goal), _float(optimizer.bits_planned)
        prunings = [p for p in self.phases if p.mode == Mode.PRUNE]
        left = sum(p.stop - max(p.start, step) for p in prunings if p.stop > step)
        fraction = 1.0 - min(goal / planned, 1.0) ** min(stride / left, 1.0)
        planned *= 1.0 - fraction
        optimizer.bits_planned.assign(planned)
        # At a round's last step there is no time left to catch up within it.
        self._delete(planned, 1.0 if step + stride >= phase.stop else FASTEST * fraction)
        if stride >= left:
            self._finish_pruning()

    def _delete(self, bits: float, fraction: float) -> None:
        """Prunes to average bits per weight, by at most a fraction of any kernel's bases."""
        optimizer, candidates = self.model.optimizer, []
        excess = average_bits(self.model)["total"] - bits
        for quantized_kernel, weights in self.pairs.values():
            slope, curvature = map(ops.convert_to_numpy, optimizer.coordinate_model(weights))
            alpha, valid = (
                ops.convert_to_numpy(quantized_kernel.state[name]) for name in ("alpha", "valid")
            )
            base_bits = quantized_kernel.state["basis"].shape[-1]
            candidates.append(Candidates(increase(slope, curvature, alpha, valid), base_bits))
        chosen = to_delete(candidates, excess * self.weight_count, fraction, self.floor)
        for (quantized_kernel, _), bases in zip(self.pairs.values(), chosen, strict=True):
            delete(quantized_kernel, bases)

    def _reach_size(self) -> None:
        """Prunes on until the size is reached, if there is one."""
        for _ in range(TRIES if self.size is not None else 0):
            self._set_goal()
            goal = _float(self.model.optimizer.bits_goal)
            now = average_bits(self.model)["total"]
            if now <= goal:
                break
            self._delete(min(goal, now - self.largest_base), 1.0)

    def _finish_pruning(self) -> None:
        """Makes sure of the size; warns if the floor is in the way."""
        self._reach_size()
        goal = _float(self.model.optimizer.bits_goal)
        now = average_bits(self.model)["total"]
        if now - goal > self.largest_base:
            warnings.warn(
                f"ALQRounds: pruning ends at {now:.3f} bits per weight instead of {goal:.3f}: the "
                f"floor of {self.floor} bits holds. Lower `floor`, or ask for more bits.",
                stacklevel=2,
            )


def _refused(rule: str, received: str) -> ModelError:
    return ModelError("ALQRounds", rule, received=received)


def _float(value: Any) -> float:
    return float(ops.convert_to_numpy(value))
