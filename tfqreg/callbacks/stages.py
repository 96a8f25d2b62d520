"""The stages of training as one callback: prune, freeze the mask, quantize, settle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.callbacks.watch import warn_of_divergence, warn_of_zeros
from tfqreg.layers.kernel import QuantizedKernel, Stage
from tfqreg.layers.queries import kernel_pairs
from tfqreg.pruning.schedules import cubic, sparsity_at
from tfqreg.regularizers import Pruning

Pair = tuple[QuantizedKernel, Any]
PRUNE_UNTIL = 0.45


@dataclass
class _Pruned:
    """The kernels that one object prunes together."""

    penalty: Pruning
    pairs: list[Pair] = field(default_factory=list)

    def frozen(self) -> bool:
        """Whether the masks were set."""
        return any(kernel.frozen for kernel, _ in self.pairs)


class Stages(Progress):
    """Walks a model through pruning and quantization; needed where rules prune, and good for all.

    | share of training | what happens |
    |---|---|
    | 0 to `prune_until` | float weights; the pruned share rises cubically to its goal by `ramp_until` |
    | at `prune_until` | weights under the threshold go to 0 and are masked; scales are fitted to the rest |
    | to `settle_from` | quantized weights, the regularizer's coefficient learns |
    | to the end | the coefficient stands at its cap |

    A model that prunes nothing is quantized from its first step. A warning tells of a kernel that
    is nearly all zeros as quantization starts, and of a coefficient that diverges. The callback
    holds no state: where training stands is read from the optimizer's step and the model's
    variables, so a saved run resumes exactly.

    Args:
        prune_until, ramp_until, settle_from: shares of the whole training; 0.45, 0.35 and 0.85 by
            default.
        sparsity: callable of the step in place of the cubic ramp, for all that prune; it returns
            the share itself or a (should_prune, share) pair, so a schedule of TensorFlow Model
            Optimization is accepted as it is.
        total_steps: steps of the whole training; taken from `fit` by default.
        refresh_steps: steps between new thresholds; 100 by default.

    Raises:
        ValueError: for shares out of order, or a `fit` that does not know its number of steps.
    """

    def __init__(
        self,
        prune_until: float = PRUNE_UNTIL,
        ramp_until: float = 0.35,
        settle_from: float = 0.85,
        sparsity: Callable[[Any], Any] | None = None,
        total_steps: int | None = None,
        refresh_steps: int = 100,
    ) -> None:
        super().__init__(total_steps)
        if not 0.0 <= ramp_until <= prune_until <= settle_from <= 1.0:
            raise ValueError(
                "Stages: shares must rise, 0 <= ramp_until <= prune_until <= settle_from <= 1. "
                f"Received: {ramp_until}, {prune_until}, {settle_from}"
            )
        self.prune_until, self.ramp_until, self.settle_from = prune_until, ramp_until, settle_from
        self.sparsity = sparsity
        self.refresh_steps = refresh_steps

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels, and the steps at which stages end."""
        super().on_train_begin(logs)
        self.pairs: list[Pair] = kernel_pairs(self.model)
        self.pruned: dict[int, _Pruned] = {}
        for kernel, variable in self.pairs:
            if kernel.prune is not None:
                self.pruned.setdefault(id(kernel.prune), _Pruned(kernel.prune)).pairs.append(
                    (kernel, variable)
                )
        self.pruned = {key: group for key, group in self.pruned.items() if not group.frozen()}
        self.penalties = {
            id(p): p for kernel, _ in self.pairs for p in (kernel.prune, kernel.regularizer) if p
        }
        self.told: set[int] = set()
        prunes = any(kernel.prune is not None for kernel, _ in self.pairs)
        total = self.total
        self.ramp_end = self.ramp_until * total
        self.prune_end = round(self.prune_until * total) if prunes else 0
        self.settle_start = round(self.settle_from * total)
        self.refresh = max(1, min(self.refresh_steps, total // 50))
        for penalty in self.penalties.values():
            penalty.check_schedule(total, self.prune_end, self.settle_start)

    def on_step(self, step: int, last: int) -> None:
        """Moves the stages forward, every `refresh_steps` and where one ends."""
        stage_ends = any(last < end <= step for end in (self.prune_end, self.settle_start))
        if step // self.refresh == last // self.refresh and not stage_ends:
            return
        sync(self.model)
        for penalty in self.penalties.values():
            penalty.at_step(step, self.total)
        self._watch(step)
        if step < self.prune_end:
            for group in self.pruned.values():
                self._prune(group, step)
            self._start_regularizers()
            return
        for group in self.pruned.values():
            self._freeze(group, step)
        self.pruned = {}
        if last < self.prune_end:
            for kernel, variable in self.pairs:
                if kernel.stage != Stage.SETTLE:  # training goes on where it had settled
                    warn_of_zeros(kernel, variable)
        self._start_regularizers()
        if step >= self.settle_start:
            self._settle()

    def _share(self, group: _Pruned, step: int) -> tuple[bool, float]:
        if self.sparsity is not None:
            return sparsity_at(self.sparsity, step)
        return True, group.penalty.sparsity * (
            cubic(step / self.ramp_end) if step < self.ramp_end else 1.0
        )

    def _prune(self, group: _Pruned, step: int) -> None:
        due, share = self._share(group, step)
        group.penalty.update(group.pairs, share if due else None)

    def _freeze(self, group: _Pruned, step: int) -> None:
        masks = group.penalty.final_masks(group.pairs, self._share(group, step)[1])
        for (kernel, variable), mask in zip(group.pairs, masks, strict=True):
            kernel.freeze(variable, mask)

    def _start_regularizers(self) -> None:
        waiting = {kernel for group in self.pruned.values() for kernel, _ in group.pairs}
        for penalty in self.penalties.values():
            pairs = [pair for pair in self.pairs if pair[0].regularizer is penalty]
            if pairs and not penalty.started and not any(kernel in waiting for kernel, _ in pairs):
                penalty.start(pairs)

    def _watch(self, step: int) -> None:
        for key, penalty in self.penalties.items():
            paths = [
                w.path for kernel, w in self.pairs if penalty in (kernel.prune, kernel.regularizer)
            ]
            if key not in self.told and warn_of_divergence(paths, penalty, step):
                self.told.add(key)

    def _settle(self) -> None:
        for kernel, _ in self.pairs:
            kernel.settle()
        for penalty in {kernel.regularizer for kernel, _ in self.pairs if kernel.regularizer}:
            penalty.settle()
