"""`SizeBudget`: prunes just as much as a container of a given size asks for."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.errors import ModelError
from tfqreg.layers.kernel import QuantizedKernel, Stage
from tfqreg.layers.queries import kernel_pairs
from tfqreg.pruning.coded_size import code_bits
from tfqreg.pruning.pruned import Pair, pruned_together

Masks = dict[QuantizedKernel, np.ndarray]
# How far the fraction of survivors may fall under the most that is looked for: an estimate that is
# far off then ends in a net that still has weights, and is corrected at the next look.
LEAST = 1 / 64
# Estimates from one look to the next: coded bytes are nearly proportional to the survivors, so each
# takes away most of what the one before was off by.
STEPS = 3
# A container this full need not be looked at again: what a further look would gain is less than
# what the settling of weights moves.
FULL = 0.99
# What is aimed at after the first look: the corrected estimate may still be off by the rest.
AIM = 0.995
# Looks at the real size, each seconds long: while masks are open the next one corrects this one,
LOOKS_WHILE_OPEN = 2
# while the cut of final masks has to meet the target.
LOOKS_WHEN_FINAL = 6


class SizeBudget(Progress):
    """Moves the sparsity of all that prunes until the model's container takes `target_bytes`.

    All that prune keep their proportions: the fraction of survivors is multiplied by one factor,

        sparsity = 1 - factor * (1 - sparsity of the rule)

    An estimate finds it, from the entropy of the codes there would be; the real size corrects the
    estimate every time. While masks are open this happens `looks` times; once they are final,
    weights are cut (never given back) if training has made the codes dearer: when the settling
    begins, and at the end, when the size is met for certain. `logs` of every epoch carry
    `container_bytes`, the estimate. The callback goes before `Stages`.

    Args:
        target_bytes: what the container may take.
        size: returns the bytes of a model, such as `tfqreg.export.container_size`. If dead units
            are removed before export, it removes them too:
            `lambda model: container_size(tq.remove_dead_units(model))`.
        looks: how often the real size is asked for while masks are open; 4 by default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ModelError: for a target that is not positive, a model of which nothing is pruned, and,
            within the first steps, a target that the model without its weights is over.

    Example:
        >>> SizeBudget(4000, size=lambda model: 0).target_bytes
        4000
    """

    def __init__(
        self,
        target_bytes: int,
        size: Callable[[keras.Model], int],
        looks: int = 4,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(total_steps)
        if not target_bytes > 0:
            raise ModelError(
                "SizeBudget",
                "`target_bytes` must be positive",
                received=f"target_bytes={target_bytes!r}",
            )
        self.target_bytes, self.size, self.looks = target_bytes, size, looks

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds what prunes."""
        super().on_train_begin(logs)
        self.pairs: list[Pair] = kernel_pairs(self.model)
        self.groups = pruned_together(self.pairs)
        if not self.groups:
            raise ModelError(
                "SizeBudget",
                f"{self.model.name} prunes nothing, so its size cannot be moved",
                "Give its rules a `prune`",
                f"target_bytes={self.target_bytes}",
            )
        self.goals = [prune.sparsity for prune, _ in self.groups]
        self.fixed_bytes: float | None = None  # what is there whatever is pruned
        self.bytes_per_bit = 1 / 8
        self.settled = False
        self.every = max(1, self.total // (2 * self.looks))

    def on_step(self, step: int, last: int) -> None:
        """Looks at the size."""
        if step == 0 or (step // self.every == last // self.every and self.fixed_bytes is not None):
            return
        sync(self.model)
        if self.fixed_bytes is None:
            self._find_skeleton()
        stage = self._stage()
        if stage == Stage.PRUNE:
            dense = 1.0 / (1.0 - max(self.goals))  # the factor that leaves all weights of a group
            factor, _ = self._fitting(True, dense, LOOKS_WHILE_OPEN)
            for (prune, _), goal in zip(self.groups, self.goals, strict=True):
                prune.sparsity = _sparsity(goal, factor)
        elif stage == Stage.SETTLE and not self.settled:
            self._cut()
            self.settled = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the estimate to the logs."""
        if logs is not None and self.fixed_bytes is not None:
            sync(self.model)
            logs["container_bytes"] = self.estimate()

    def on_train_end(self, logs: Any = None) -> None:
        """Cuts what is still too much."""
        sync(self.model)
        if self.fixed_bytes is not None and self._stage() != Stage.PRUNE:
            self._cut()

    def estimate(self) -> float:
        """Returns about the bytes of the container, as the model stands."""
        return self._bytes(self._codes())

    def _codes(self) -> list[np.ndarray]:
        return [quantized_kernel.encode(weights)[0] for quantized_kernel, weights in self.pairs]

    def _stage(self) -> int:
        return min(
            _stage(quantized_kernel) for _, pairs in self.groups for quantized_kernel, _ in pairs
        )

    def _bytes(self, codes: list[np.ndarray]) -> float:
        return (self.fixed_bytes or 0.0) + self.bytes_per_bit * sum(map(code_bits, codes))

    def _masks(self, factor: float) -> Masks:
        masks: Masks = {}
        for (prune, pairs), goal in zip(self.groups, self.goals, strict=True):
            found = prune.final_masks(pairs, _sparsity(goal, factor))
            for (quantized_kernel, weights), mask in zip(pairs, found, strict=True):
                size = np.abs(ops.convert_to_numpy(weights))
                # No kernel may lose all its weights.
                masks[quantized_kernel] = mask | (size == size.max())
        return masks

    @contextmanager
    def _frozen(self, masks: Masks, refit: bool) -> Iterator[list[np.ndarray]]:
        """Gives the codes there would be if masks were final now; the model stands so meanwhile."""
        changed: list[Any] = [
            v for k in masks for v in (k.mask, k.stage, *(k.state.values() if refit else ()))
        ]
        before = [ops.convert_to_numpy(v).copy() for v in changed]
        try:
            for quantized_kernel, weights in self.pairs:
                if quantized_kernel not in masks:
                    continue
                _assign_mask(quantized_kernel, masks[quantized_kernel])
                quantized_kernel.stage.assign(max(_stage(quantized_kernel), Stage.QUANTIZE))
                if refit:
                    quantized_kernel.fit_quantizer(quantized_kernel.surviving(weights))
            yield self._codes()
        finally:
            for variable, value in zip(changed, before, strict=True):
                variable.assign(value)

    def _measured(self, factor: float, refit: bool) -> int:
        """Returns the real size at a factor, and corrects the estimate by it."""
        with self._frozen(self._masks(factor), refit) as codes:
            real = self.size(self.model)
            bits = sum(map(code_bits, codes))
        self.bytes_per_bit = max(real - (self.fixed_bytes or 0.0), 1.0) / max(bits, 1.0)
        return real

    def _find_skeleton(self) -> None:
        """Measures what is no weight, at the rules' sparsity; raises if that is over the target."""
        with self._frozen(self._masks(1.0), refit=True) as codes:
            real, bits = self.size(self.model), sum(map(code_bits, codes))
        self.fixed_bytes = real - bits / 8
        if self.fixed_bytes >= self.target_bytes:
            raise ModelError(
                "SizeBudget",
                f"{self.model.name} takes {self.fixed_bytes:.0f} bytes without its weights: graph, "
                "biases, scales, index",
                "Raise the target, or begin with a narrower network (tfqreg.drop_weak_units)",
                f"target_bytes={self.target_bytes}",
            )

    def _fitting(self, refit: bool, most: float, looks: int) -> tuple[float, int]:
        """Returns a factor at which the container meets the target, and its real size there.

        Args:
            refit: fits the quantizers to the survivors first, as the freeze of masks will.
            most: the largest factor.
            looks: at the real size, at most; the last one may still be over the target.
        """
        factor, real, aim = min(1.0, most), 0, float(self.target_bytes)
        for _ in range(looks):
            for _ in range(STEPS):
                factor = self._nearer(factor, aim, most, refit)
            real = self._measured(factor, refit)
            full = real >= FULL * self.target_bytes or factor == most
            if real <= self.target_bytes and full:
                break
            aim = AIM * self.target_bytes
        return factor, real

    def _nearer(self, factor: float, aim: float, most: float, refit: bool) -> float:
        """Returns the factor at which the weights would take what the target leaves them.

        That is if each weight took as many bytes as it does at the present factor.
        """
        fixed = self.fixed_bytes or 0.0
        try:
            with self._frozen(self._masks(factor), refit) as codes:
                change = (aim - fixed) / max(self._bytes(codes) - fixed, 1.0)
        except ValueError:  # nothing is left of some kernel: many more weights have to stay
            change = 2.0
        return min(max(factor * change, most * LEAST), most)

    def _cut(self) -> None:
        """Prunes what final masks leave too much of, for good."""
        real = self.size(self.model)
        if real <= self.target_bytes:
            return
        self.goals = [_pruned_fraction(pairs) for _, pairs in self.groups]
        factor, found = self._fitting(False, 1.0, LOOKS_WHEN_FINAL)
        for quantized_kernel, mask in self._masks(factor).items():
            _assign_mask(quantized_kernel, mask)
        if found > self.target_bytes:
            warnings.warn(
                f"SizeBudget: {self.model.name} stands at {found} bytes, target "
                f"{self.target_bytes}.",
                stacklevel=2,
            )


def _assign_mask(quantized_kernel: Any, mask: np.ndarray) -> None:
    quantized_kernel.mask.assign(mask)


def _stage(quantized_kernel: QuantizedKernel) -> int:
    return int(ops.convert_to_numpy(quantized_kernel.stage))


def _sparsity(goal: float, factor: float) -> float:
    return float(np.clip(1.0 - (1.0 - goal) * factor, 0.0, 1.0 - 1e-6))


def _pruned_fraction(pairs: list[Pair]) -> float:
    alive = sum(int(ops.convert_to_numpy(each.mask).sum()) for each, _ in pairs)
    return 1.0 - alive / sum(each.count for each, _ in pairs)
