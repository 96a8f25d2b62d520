"""The stages of training as one callback: prune, freeze the mask, quantize, settle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.layers.kernel import QuantizedKernel, Stage
from tfqreg.pruning.magnitude import exact_threshold, histogram_threshold
from tfqreg.pruning.schedules import cubic, sparsity_at
from tfqreg.regularizers import PartialL2
from tfqreg.wrap import quantized_layers

Pair = tuple[QuantizedKernel, Any]


@dataclass
class _Pruned:
    """The kernels that one `PartialL2` prunes together."""

    penalty: PartialL2
    pairs: list[Pair] = field(default_factory=list)

    def weights(self) -> list[np.ndarray]:
        return [ops.convert_to_numpy(variable) for _, variable in self.pairs]

    def frozen(self) -> bool:
        """Whether the masks were set."""
        return any(kernel.frozen for kernel, _ in self.pairs)


class Stages(keras.callbacks.Callback):
    """Walks a model through pruning and quantization; needed where rules prune, and good for all.

    | share of training | what happens |
    |---|---|
    | 0 to `prune_until` | float weights; the pruned share rises cubically to its goal by `ramp_until` |
    | at `prune_until` | weights under the threshold go to 0 and are masked; scales are fitted to the rest |
    | to `settle_from` | quantized weights, the regularizer's coefficient learns |
    | to the end | the coefficient stands at its cap |

    A model that prunes nothing is quantized from its first step. The callback holds no state: where training stands is
    read from the optimizer's step and the model's variables, so a saved run resumes exactly.

    Args:
        prune_until, ramp_until, settle_from: shares of the whole training; 0.45, 0.35 and 0.85 by default.
        sparsity: callable of the step in place of the cubic ramp, for all that prune; it returns the share itself or
            a (should_prune, share) pair, so a schedule of TensorFlow Model Optimization is accepted as it is.
        total_steps: steps of the whole training; taken from `fit` by default.
        refresh_steps: steps between new thresholds; 100 by default.

    Raises:
        ValueError: for shares out of order, or a `fit` that does not know its number of steps.
    """

    def __init__(
        self,
        prune_until: float = 0.45,
        ramp_until: float = 0.35,
        settle_from: float = 0.85,
        sparsity: Callable[[Any], Any] | None = None,
        total_steps: int | None = None,
        refresh_steps: int = 100,
    ) -> None:
        super().__init__()
        if not 0.0 <= ramp_until <= prune_until <= settle_from <= 1.0:
            raise ValueError(
                "Stages: shares must rise, 0 <= ramp_until <= prune_until <= settle_from <= 1. "
                f"Received: {ramp_until}, {prune_until}, {settle_from}"
            )
        self.prune_until, self.ramp_until, self.settle_from = prune_until, ramp_until, settle_from
        self.sparsity = sparsity
        self.total_steps = total_steps
        self.refresh_steps = refresh_steps

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the kernels, and the steps at which stages end."""
        self.pairs: list[Pair] = [pair for layer in quantized_layers(self.model) for pair in layer.kernel_pairs()]
        self.pruned: dict[int, _Pruned] = {}
        for kernel, variable in self.pairs:
            if kernel.prune is not None:
                self.pruned.setdefault(id(kernel.prune), _Pruned(kernel.prune)).pairs.append((kernel, variable))
        self.pruned = {key: group for key, group in self.pruned.items() if not group.frozen()}
        self.penalties = {id(p): p for kernel, _ in self.pairs for p in (kernel.prune, kernel.regularizer) if p}
        steps = self.params.get("steps")
        total = self.total_steps or (steps and steps * self.params["epochs"])
        if not total:
            raise ValueError(
                "Stages: the length of the training is unknown, the data does not tell its number of batches. "
                "Pass Stages(total_steps=...), or steps_per_epoch to fit."
            )
        prunes = any(kernel.prune is not None for kernel, _ in self.pairs)
        self.total = total
        self.ramp_end = self.ramp_until * total
        self.prune_end = round(self.prune_until * total) if prunes else 0
        self.settle_start = round(self.settle_from * total)
        self.refresh = max(1, min(self.refresh_steps, total // 50))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Reads the step the optimizer is at."""
        self._sync()
        optimizer = self.model.optimizer
        batches_a_step = getattr(optimizer, "gradient_accumulation_steps", None) or 1
        self.first_step = int(ops.convert_to_numpy(optimizer.iterations)) * batches_a_step
        self.last_step = self.first_step - 1

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Moves the stages forward, every `refresh_steps` and where one ends."""
        step, last = self.first_step + batch, self.last_step
        self.last_step = step  # further than one step with `steps_per_execution`
        stage_ends = any(last < end <= step for end in (self.prune_end, self.settle_start))
        if step // self.refresh == last // self.refresh and not stage_ends:
            return
        self._sync()
        for penalty in self.penalties.values():
            penalty.at_step(step, self.total)
        if step < self.prune_end:
            for group in self.pruned.values():
                self._prune(group, step)
            self._start_regularizers()
            return
        for group in self.pruned.values():
            self._freeze(group, step)
        self.pruned = {}
        self._start_regularizers()
        if step >= self.settle_start:
            self._settle()

    def _sync(self) -> None:
        # Under JAX the training state lives outside the variables between epochs.
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def _share(self, group: _Pruned, step: int) -> tuple[bool, float]:
        if self.sparsity is not None:
            return sparsity_at(self.sparsity, step)
        return True, group.penalty.sparsity * (cubic(step / self.ramp_end) if step < self.ramp_end else 1.0)

    def _prune(self, group: _Pruned, step: int) -> None:
        weights, (due, share) = group.weights(), self._share(group, step)
        threshold = histogram_threshold(weights, share) if due else None
        for kernel, _ in group.pairs:
            kernel.stage.assign(Stage.PRUNE)
            if threshold is not None:
                kernel.set_threshold(threshold)
        if not group.penalty.started:
            goal = histogram_threshold(weights, group.penalty.sparsity)
            squares = sum(float(np.square(w[np.abs(w) <= goal]).sum()) for w in weights)
            group.penalty.start_from(squares / group.penalty.count)

    def _freeze(self, group: _Pruned, step: int) -> None:
        threshold = exact_threshold(group.weights(), self._share(group, step)[1])
        for kernel, variable in group.pairs:
            kernel.freeze(variable, threshold)

    def _start_regularizers(self) -> None:
        waiting = {kernel for group in self.pruned.values() for kernel, _ in group.pairs}
        for penalty in self.penalties.values():
            pairs = [pair for pair in self.pairs if pair[0].regularizer is penalty]
            if pairs and not penalty.started and not any(kernel in waiting for kernel, _ in pairs):
                squares = sum(float(ops.convert_to_numpy(kernel.grid_squares(w))) for kernel, w in pairs)
                penalty.start_from(squares / penalty.count)

    def _settle(self) -> None:
        for kernel, _ in self.pairs:
            kernel.settle()
        for penalty in {kernel.regularizer for kernel, _ in self.pairs if kernel.regularizer}:
            penalty.settle()
