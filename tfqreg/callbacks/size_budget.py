"""`SizeBudget`: prunes just so much that the container has a given number of bytes."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.callbacks.progress import Progress, sync
from tfqreg.layers.kernel import QuantizedKernel, Stage
from tfqreg.layers.queries import kernel_pairs
from tfqreg.pruning.coded_size import code_bits
from tfqreg.regularizers import Pruning

Pair = tuple[QuantizedKernel, Any]
Masks = dict[QuantizedKernel, np.ndarray]
LEAST = 1 / 64  # how far the share of survivors may fall under what the rules ask for
STEPS = 3  # coded bytes are nearly proportional to the survivors


class SizeBudget(Progress):
    """Moves the `sparsity` of all that prunes until the model's container takes `target_bytes`;
    goes before `Stages`.

    All groups that prune keep their proportions: the share of survivors is multiplied by one
    factor. An estimate finds it, from the entropy of the codes there would be; the real size
    corrects the estimate every time. While masks are open this happens `looks` times; once they are
    final, weights are cut (never given back) where training has made the codes dearer: when the
    settling begins, and at the end, when the size is met for certain.

    `logs` of every epoch carry `container_bytes`, the estimate.

    Args:
        target_bytes: what the container may take.
        size: gives the bytes of a model, `tfqreg.export.container_size` or what suits; a model that
            loses its dead units before export is measured so: `lambda m:
                container_size(tq.remove_dead_units(m))`.
        looks: how often the real size is asked for while masks are open; 4 by default.
        total_steps: steps of the whole training; taken from `fit` by default.

    Raises:
        ValueError: for a target that is not positive, a model of which nothing is pruned, and,
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
            raise ValueError(
                f"SizeBudget: `target_bytes` must be positive. Received: "
                f"target_bytes={target_bytes!r}"
            )
        self.target_bytes, self.size, self.looks = target_bytes, size, looks

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds what prunes."""
        super().on_train_begin(logs)
        pairs = kernel_pairs(self.model)
        self.pairs: list[Pair] = pairs
        self.groups: list[tuple[Pruning, list[Pair]]] = []
        for prune in {id(k.prune): k.prune for k, _ in pairs if k.prune is not None}.values():
            self.groups.append((prune, [pair for pair in pairs if pair[0].prune is prune]))
        if not self.groups:
            raise ValueError(
                f"SizeBudget: {self.model.name} prunes nothing, so its size cannot be moved. Give "
                f"its rules a `prune`. "
                f"Received: target_bytes={self.target_bytes}"
            )
        self.goals = [prune.sparsity for prune, _ in self.groups]
        self.fixed_bytes: float | None = None  # what is there whatever is pruned
        self.bytes_a_bit = 1 / 8
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
            factor, _ = self._fitting(True, 1.0 / (1.0 - max(self.goals)), rounds=2)
            for (prune, _), goal in zip(self.groups, self.goals, strict=True):
                prune.sparsity = _share(goal, factor)
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
        return self._bytes({kernel: kernel.encode(w)[0] for kernel, w in self.pairs})

    def _stage(self) -> int:
        return min(
            int(ops.convert_to_numpy(kernel.stage))
            for _, pairs in self.groups
            for kernel, _ in pairs
        )

    def _bytes(self, codes: dict[QuantizedKernel, np.ndarray]) -> float:
        return (self.fixed_bytes or 0.0) + self.bytes_a_bit * sum(map(code_bits, codes.values()))

    def _masks(self, factor: float) -> Masks:
        masks: Masks = {}
        for (prune, pairs), goal in zip(self.groups, self.goals, strict=True):
            found = prune.final_masks(pairs, _share(goal, factor))
            for (kernel, w), mask in zip(pairs, found, strict=True):
                size = np.abs(ops.convert_to_numpy(w))
                masks[kernel] = mask | (size == size.max())  # no kernel may lose all its weights
        return masks

    @contextmanager
    def _frozen(self, masks: Masks, refit: bool) -> Iterator[dict[QuantizedKernel, np.ndarray]]:
        """Gives the codes there would be if masks were final now; the model stands so meanwhile."""
        changed: list[Any] = [
            v for k in masks for v in (k.mask, k.stage, *(k.state.values() if refit else ()))
        ]
        before = [ops.convert_to_numpy(v).copy() for v in changed]
        try:
            for kernel, w in self.pairs:
                if kernel in masks:
                    _assign_mask(kernel, masks[kernel])
                    kernel.stage.assign(
                        max(int(ops.convert_to_numpy(kernel.stage)), Stage.QUANTIZE)
                    )
                    if refit:
                        kernel.fit_quantizer(kernel.surviving(w))
            yield {kernel: kernel.encode(w)[0] for kernel, w in self.pairs}
        finally:
            for variable, value in zip(changed, before, strict=True):
                variable.assign(value)

    def _measured(self, factor: float, refit: bool) -> int:
        """Returns the real size at a factor, and corrects the estimate by it."""
        with self._frozen(self._masks(factor), refit) as codes:
            real = self.size(self.model)
            bits = sum(map(code_bits, codes.values()))
        self.bytes_a_bit = max(real - (self.fixed_bytes or 0.0), 1.0) / max(bits, 1.0)
        return real

    def _find_skeleton(self) -> None:
        """Measures what is no weight, at the sparsity the model is meant for; raises where that is
        over the target.
        """
        with self._frozen(self._masks(1.0), refit=True) as codes:
            real, bits = self.size(self.model), sum(map(code_bits, codes.values()))
        self.fixed_bytes = real - bits / 8
        if self.fixed_bytes >= self.target_bytes:
            raise ValueError(
                f"SizeBudget: {self.model.name} takes {self.fixed_bytes:.0f} bytes without its "
                f"weights: graph, biases, "
                "scales, index. Raise the target, or begin with a narrower network "
                "(tfqreg.drop_weak_units). "
                f"Received: target_bytes={self.target_bytes}"
            )

    def _fitting(self, refit: bool, most: float, rounds: int) -> tuple[float, int]:
        """Returns a factor, `most` at the most, at which the container meets the target, and its
        real size there.
        """
        factor, real, aim = min(1.0, most), 0, float(self.target_bytes)
        for _ in range(rounds):
            for _ in range(STEPS):
                factor = self._nearer(factor, aim, most, refit)
            real = self._measured(factor, refit)
            if real <= self.target_bytes and (real >= 0.99 * self.target_bytes or factor == most):
                break
            aim = (
                0.995 * self.target_bytes
            )  # what the estimate may be off by, now that it was corrected
        return factor, real

    def _nearer(self, factor: float, aim: float, most: float, refit: bool) -> float:
        """Returns the factor at which weights would take what the target leaves them, were they all
        alike.
        """
        fixed = self.fixed_bytes or 0.0
        try:
            with self._frozen(self._masks(factor), refit) as codes:
                change = (aim - fixed) / max(self._bytes(codes) - fixed, 1.0)
        except ValueError:  # nothing is left of some kernel
            change = 2.0
        return min(max(factor * change, most * LEAST), most)

    def _cut(self) -> None:
        """Prunes what final masks leave too much of, for good."""
        real = self.size(self.model)
        if real <= self.target_bytes:
            return
        self.goals = [_pruned_share(pairs) for _, pairs in self.groups]
        factor, found = self._fitting(False, 1.0, rounds=6)
        for kernel, mask in self._masks(factor).items():
            _assign_mask(kernel, mask)
        if found > self.target_bytes:
            warnings.warn(
                f"SizeBudget: {self.model.name} stands at {found} bytes, target "
                f"{self.target_bytes}.",
                stacklevel=2,
            )


def _assign_mask(kernel: Any, mask: np.ndarray) -> None:
    kernel.mask.assign(mask)


def _share(goal: float, factor: float) -> float:
    return float(np.clip(1.0 - (1.0 - goal) * factor, 0.0, 1.0 - 1e-6))


def _pruned_share(pairs: list[Pair]) -> float:
    alive = sum(int(ops.convert_to_numpy(kernel.mask).sum()) for kernel, _ in pairs)
    return 1.0 - alive / sum(kernel.count for kernel, _ in pairs)
