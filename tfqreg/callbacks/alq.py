"""The rounds of ALQ: bases, coordinates, pruning; then what follows them until the weights are
integers.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfqreg.callbacks.alq_phases import Phase, phases
from tfqreg.callbacks.progress import Progress
from tfqreg.norms import fix_mode, free_mode, norms_of
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
TRIES = 20


class ALQRounds(Progress):
    """Takes a model with `MultiBit` weights and the optimizer `ALQ` to an average bit width, or to
    bytes.

    | share of training | what happens |
    |---|---|
    | 0 to `rounds_until` | `rounds` times: basis steps, coordinate steps, pruning of bases |
    | to `ste_until` | basis steps around float weights, straight through |
    | to `coordinate_until` | coordinate steps |
    | to the end | coordinates are whole numbers of a unit for each output channel, and go on learning as such |

    Pruning deletes the bases that cost the loss least for the bits they take, a constant share of
    what there is at each step; BatchNormalization computes with its moving statistics meanwhile.
    The callback holds no state: a saved training resumes exactly in any phase. `deviation` tells,
    by kernel, the largest change of a weight when coordinates become whole.

    Args:
        bits: average bases a weight to end with; or
        size_bytes, size: a size to end with at most, and the callable that measures a model, such
            as `lambda model: len(pack(write_tflite(lower(model))))`. It sees the model on its
                integer grid.
        rounds: 4 by default.
        split: how a round divides into basis, coordinate and pruning steps; (2, 1, 1) by default.
        rounds_until, ste_until, coordinate_until: shares of the training; 0.62, 0.86 and 0.95 by
            default, the published epochs with our last phase behind them.
        decay: factor by which the optimizer's rate falls within each round, and again after them;
            0.05 by default.
        floor: average bits that no kernel is pruned below; 0.02 by default. One base is always
            kept.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ValueError: for targets or shares out of range, an optimizer that is not `ALQ` or has a
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
            raise ValueError(
                "ALQRounds: give `bits`, or `size_bytes` together with `size`. "
                f"Received: bits={bits}, size_bytes={size_bytes}, size={size}"
            )
        if not (bits or size_bytes or 0) > 0:
            raise ValueError(
                f"ALQRounds: the target is above 0. Received: bits={bits}, size_bytes={size_bytes}"
            )
        if not 0.0 < rounds_until <= ste_until <= coordinate_until <= 1.0:
            raise ValueError(
                "ALQRounds: shares must rise, 0 < rounds_until <= ste_until <= coordinate_until "
                "<= 1. "
                f"Received: {rounds_until}, {ste_until}, {coordinate_until}"
            )
        if rounds < 1 or len(split) != 3 or min(split) < 0 or split[2] <= 0:
            raise ValueError(
                "ALQRounds: one round at least, of three parts, the last above 0. "
                f"Received: rounds={rounds}, split={split}"
            )
        if not 0.0 < decay <= 1.0 or not 0.0 <= floor < 1.0:
            raise ValueError(
                f"ALQRounds: 0 < decay <= 1 and 0 <= floor < 1. Received: decay={decay}, "
                f"floor={floor}"
            )
        self.bits, self.size_bytes, self.size = bits, size_bytes, size
        self.rounds, self.split, self.decay, self.floor = rounds, split, decay, floor
        self.ends = (rounds_until, ste_until, coordinate_until)
        self.deviation: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels and the steps at which phases begin; raises where the parts do not
        belong together.
        """
        super().on_train_begin(logs)
        self.kernels = multibit_kernels(self.model)
        optimizer = self.model.optimizer
        if not isinstance(optimizer, ALQ):
            raise ValueError(
                f"ALQRounds: only ALQ trains the multi-bit weights of {', '.join(self.kernels)}. "
                f"Compile the model "
                f"with tfqreg.ALQ. Received: {type(optimizer).__name__}"
            )
        if not isinstance(optimizer.initial_rate, int | float):
            raise ValueError(
                "ALQRounds: it sets the learning rate itself, which cannot be a schedule. "
                f"Received: learning_rate={optimizer.initial_rate!r}"
            )
        optimizer.build(
            self.model.trainable_variables
        )  # the first phase sets its mode; a built one returns at once
        self.phases = phases(self.total, self.rounds, self.split, self.ends, self.decay)
        self.weights = sum(kernel.count for kernel, _ in self.kernels.values())
        sizes = [kernel.state["basis"].shape[-1] for kernel, _ in self.kernels.values()]
        self.largest_base = max(sizes) / self.weights  # in average bits
        self.norms = norms_of(self.model)
        self.norms_held = False
        self.train_functions: dict[bool, Any] = {}

    def phase_at(self, step: int) -> Phase:
        """Returns the phase that a step is in."""
        return next((phase for phase in self.phases if step < phase.stop), self.phases[-1])

    def on_step(self, step: int, last: int) -> None:
        """Sets the mode and the rate, and prunes where it is time to."""
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
        """Releases BatchNormalization; puts the weights on their integer grid where the training is
        over.
        """
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
        for norm in self.norms:
            if hold:
                fix_mode(norm, training=False)
            else:
                free_mode(norm)
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
        """Deletes a constant share of the bits, such that the last pruning step arrives at the
        goal.

        Args:
            step: the one that comes.
            phase: the one it is in.
            stride: steps from one call to the next.
        """
        optimizer = self.model.optimizer
        goal, planned = (
            float(ops.convert_to_numpy(v)) for v in (optimizer.bits_goal, optimizer.bits_planned)
        )
        prunings = [p for p in self.phases if p.mode == Mode.PRUNE]
        left = sum(p.stop - max(p.start, step) for p in prunings if p.stop > step)
        share = 1.0 - min(goal / planned, 1.0) ** min(stride / left, 1.0)
        planned *= 1.0 - share
        optimizer.bits_planned.assign(planned)
        # At a round's last step there is no time left to catch up within it.
        self._delete(planned, 1.0 if step + stride >= phase.stop else FASTEST * share)
        if stride >= left:
            self._finish_pruning()

    def _delete(self, bits: float, share: float) -> None:
        """Prunes down to average bits a weight, by no more than a share of any kernel's bases."""
        optimizer, candidates = self.model.optimizer, []
        excess = average_bits(self.model)["total"] - bits
        for kernel, variable in self.kernels.values():
            slope, curvature = map(ops.convert_to_numpy, optimizer.coordinate_model(variable))
            state = {
                name: ops.convert_to_numpy(kernel.state[name])
                for name in ("alpha", "valid", "basis")
            }
            scores = increase(slope, curvature, state["alpha"], state["valid"])
            candidates.append(Candidates(scores, state["basis"].shape[-1]))
        chosen = to_delete(candidates, excess * self.weights, share, self.floor)
        for (kernel, _), bases in zip(self.kernels.values(), chosen, strict=True):
            delete(kernel, bases)

    def _reach_size(self) -> None:
        """Prunes on until the size is reached, where there is one."""
        for _ in range(TRIES if self.size is not None else 0):
            self._set_goal()
            goal = float(ops.convert_to_numpy(self.model.optimizer.bits_goal))
            now = average_bits(self.model)["total"]
            if now <= goal:
                break
            self._delete(min(goal, now - self.largest_base), 1.0)

    def _finish_pruning(self) -> None:
        """Makes sure of the size; warns where the floor is in the way."""
        self._reach_size()
        goal = float(ops.convert_to_numpy(self.model.optimizer.bits_goal))
        now = average_bits(self.model)["total"]
        if now - goal > self.largest_base:
            warnings.warn(
                f"ALQRounds: pruning ends at {now:.3f} bits a weight instead of {goal:.3f}: the "
                f"floor of {self.floor} "
                "bits holds. Lower `floor`, or ask for more bits.",
                stacklevel=2,
            )
