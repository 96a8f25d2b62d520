"""The stages of training as one callback: prune, freeze the mask, quantize, settle."""

from collections.abc import Callable
from typing import Any

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.callbacks.watch import warn_of_divergence, warn_of_zeros
from tfqreg.errors import ModelError
from tfqreg.layers.kernel import Stage
from tfqreg.layers.queries import kernel_pairs
from tfqreg.pruning.pruned import Group, Pair, pruned_together
from tfqreg.pruning.schedules import cubic, sparsity_at
from tfqreg.regularizers import Pruning

# Where masks become final by default: the sparsity rises over a third of the training and stands
# for a tenth, which leaves more than half of the steps to the quantized weights.
PRUNE_UNTIL = 0.45
# Thresholds are renewed this often at least, so that the ramp is smooth in a short training too.
FEWEST_REFRESHES = 50


class Stages(Progress):
    """Walks a model through pruning and quantization; needed if rules prune, and good for all.

    | fraction of the training | what happens |
    |---|---|
    | 0 to `prune_until` | float weights; the pruned fraction rises to its goal by `ramp_until` |
    | at `prune_until` | small weights become 0 and are masked; scales are fitted to the rest |
    | to `settle_from` | quantized weights, the regularizer's coefficient learns |
    | to the end | the coefficient stands at its cap |

    The ramp is `sparsity * (1 - (1 - t)^3)`, t being the fraction of it that is over. A model that
    prunes nothing is quantized from its first step. A warning reports a kernel that is nearly all
    zeros as quantization starts, and a coefficient that diverges. The callback holds no state:
    where training stands is read from the optimizer's step and the model's variables, so a saved
    run resumes exactly.

    Args:
        prune_until: fraction of the whole training after which the masks are final; 0.45 by
            default.
        ramp_until: fraction after which the sparsity is at its goal, at most `prune_until`; 0.35 by
            default.
        settle_from: fraction after which nothing learns but the weights, and scales; 0.85 by
            default.
        sparsity: callable of the step in place of the cubic ramp, for all that prune; it returns
            the fraction itself or a (should_prune, fraction) pair, so a schedule of TensorFlow
            Model Optimization is accepted as it is. None by default.
        total_steps: steps of the whole training; taken from `fit` by default.
        refresh_steps: steps between new thresholds, at most; 100 by default.

    Raises:
        ModelError: for fractions out of order, or a `fit` that does not know its number of steps.

    Example:
        >>> import keras, numpy as np
        >>> import tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="head")])
        >>> model = tq.quantize(model, [tq.Rule("head", prune=tq.PartialL2(0.75))])
        >>> model.compile("adam", "mse")
        >>> x, y = np.random.rand(64, 4), np.random.rand(64, 8)
        >>> history = model.fit(x, y, epochs=4, callbacks=[Stages(prune_until=0.5)], verbose=0)
        >>> codes, params = model.get_layer("head").encode()["kernel"]
        >>> int(np.count_nonzero(codes))
        8

    Reference: Zhu and Gupta 2017, arXiv 1710.01878, equation 1, for the ramp.
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
            raise ModelError(
                "Stages",
                "fractions must rise, 0 <= ramp_until <= prune_until <= settle_from <= 1",
                received=f"{ramp_until}, {prune_until}, {settle_from}",
            )
        self.prune_until, self.ramp_until, self.settle_from = prune_until, ramp_until, settle_from
        self.sparsity = sparsity
        self.refresh_steps = refresh_steps

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels, and the steps at which stages end."""
        super().on_train_begin(logs)
        self.pairs: list[Pair] = kernel_pairs(self.model)
        groups = pruned_together(self.pairs)
        self.to_prune = [group for group in groups if not _is_frozen(group)]
        self.penalties = {
            id(penalty): penalty
            for quantized_kernel, _ in self.pairs
            for penalty in (quantized_kernel.prune, quantized_kernel.regularizer)
            if penalty
        }
        self.warned: set[int] = set()
        total = self.total
        self.ramp_end = self.ramp_until * total
        self.prune_end = round(self.prune_until * total) if groups else 0
        self.settle_start = round(self.settle_from * total)
        self.refresh = max(1, min(self.refresh_steps, total // FEWEST_REFRESHES))
        for penalty in self.penalties.values():
            penalty.check_schedule(total, self.prune_end, self.settle_start)

    def on_step(self, step: int, last: int) -> None:
        """Moves the stages forward, every `refresh_steps` and when one ends."""
        stage_ends = any(last < end <= step for end in (self.prune_end, self.settle_start))
        if step // self.refresh == last // self.refresh and not stage_ends:
            return
        sync(self.model)
        for penalty in self.penalties.values():
            penalty.at_step(step, self.total)
        self._watch(step)
        if step < self.prune_end:
            for group in self.to_prune:
                self._prune(group, step)
            self._start_regularizers()
            return
        for group in self.to_prune:
            self._freeze(group, step)
        self.to_prune = []
        if last < self.prune_end:
            for quantized_kernel, weights in self.pairs:
                if quantized_kernel.stage != Stage.SETTLE:  # else training resumes what had settled
                    warn_of_zeros(quantized_kernel, weights)
        self._start_regularizers()
        if step >= self.settle_start:
            self._settle()

    def _fraction(self, prune: Pruning, step: int) -> tuple[bool, float]:
        """Returns whether pruning is due at a step, and the fraction it stands at."""
        if self.sparsity is not None:
            return sparsity_at(self.sparsity, step)
        ramp = cubic(step / self.ramp_end) if step < self.ramp_end else 1.0
        return True, prune.sparsity * ramp

    def _prune(self, group: Group, step: int) -> None:
        prune, pairs = group
        due, fraction = self._fraction(prune, step)
        prune.update(pairs, fraction if due else None)

    def _freeze(self, group: Group, step: int) -> None:
        prune, pairs = group
        masks = prune.final_masks(pairs, self._fraction(prune, step)[1])
        for (quantized_kernel, weights), mask in zip(pairs, masks, strict=True):
            quantized_kernel.freeze(weights, mask)

    def _start_regularizers(self) -> None:
        """Starts every regularizer none of whose kernels waits for its mask."""
        waiting = {quantized_kernel for _, pairs in self.to_prune for quantized_kernel, _ in pairs}
        for penalty in self.penalties.values():
            pairs = [pair for pair in self.pairs if pair[0].regularizer is penalty]
            waits = any(quantized_kernel in waiting for quantized_kernel, _ in pairs)
            if pairs and not penalty.started and not waits:
                penalty.start(pairs)

    def _watch(self, step: int) -> None:
        """Warns, once each, of penalties whose coefficient diverged."""
        for key, penalty in self.penalties.items():
            paths = [
                weights.path
                for quantized_kernel, weights in self.pairs
                if penalty in (quantized_kernel.prune, quantized_kernel.regularizer)
            ]
            if key not in self.warned and warn_of_divergence(paths, penalty, step):
                self.warned.add(key)

    def _settle(self) -> None:
        for quantized_kernel, _ in self.pairs:
            quantized_kernel.settle()
        penalties = (quantized_kernel.regularizer for quantized_kernel, _ in self.pairs)
        for penalty in {penalty for penalty in penalties if penalty}:
            penalty.settle()


def _is_frozen(group: Group) -> bool:
    return any(quantized_kernel.frozen for quantized_kernel, _ in group[1])
