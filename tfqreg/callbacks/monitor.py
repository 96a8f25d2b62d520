"""One row of figures a kernel and epoch: coefficient, error to the grid, sparsity, scale."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.callbacks.progress import sync
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers import LearnedBits, MultiBit
from tfqreg.quantizers.multibit import bases_a_weight


def kernel_figures(model: keras.Model) -> dict[str, dict[str, float]]:
    """Returns, by "layer/kernel", the figures that tell how far training has come.

    `grid_error` is the root mean square distance of the surviving weights to their levels, in units
    of the mean scale (0.29 for weights spread evenly); `sparsity` the share of zero codes; `scale`
    the mean scale; `bits` the width of the codes, `beta` the learned one without its sign,
    `average_bits` the bases of a multi-bit weight; `coefficient` and `prune_coefficient` the
    strengths of the penalties, where there are any.

    Args:
        model: a model with wrapped layers.
    """
    figures: dict[str, dict[str, float]] = {}
    for layer in quantized_layers(model):
        for kernel, variable in layer.kernel_pairs():
            codes, params = kernel.encode(variable)
            scale = float(np.mean(params["scale"]))
            alive = (
                kernel.count
                if kernel.mask is None
                else int(ops.convert_to_numpy(kernel.mask).sum())
            )
            squares = float(ops.convert_to_numpy(kernel.grid_squares(variable)))
            row = {
                "grid_error": float(np.sqrt(squares / max(alive, 1))) / scale,
                "sparsity": 1.0 - np.count_nonzero(codes) / codes.size,
                "scale": scale,
                "bits": float(params["bits"]),
                "stage": float(ops.convert_to_numpy(kernel.stage)),
            }
            if isinstance(kernel.quantizer, LearnedBits):
                row["beta"] = float(
                    ops.convert_to_numpy(ops.sum(kernel.quantizer.beta(kernel.state)))
                )
            if isinstance(kernel.quantizer, MultiBit):
                row["average_bits"] = bases_a_weight(kernel.state)
            for name, penalty in (
                ("coefficient", kernel.regularizer),
                ("prune_coefficient", kernel.prune),
            ):
                if penalty is not None:
                    row[name] = float(ops.convert_to_numpy(penalty.strength_now))
            name = f"{layer.name}/{kernel.name}"
            twins = sum(
                key.split(":")[0] == name for key in figures
            )  # nested models may repeat a name
            figures[f"{name}:{twins}" if twins else name] = row
    return figures


class Monitor(keras.callbacks.Callback):
    """Keeps `kernel_figures` of every epoch in `rows`, and writes them for TensorBoard where asked.

    Args:
        log_dir: folder of TensorBoard event files; needs the extra `tensorboard`. None keeps
            `rows` alone.

    Raises:
        ImportError: when `log_dir` is given and tensorboard is not installed.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        super().__init__()
        self.rows: list[dict[str, dict[str, float]]] = []
        self._writer: Any = None
        if log_dir is not None:
            try:
                from tensorboard.summary import Writer  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise ImportError(
                    "Monitor(log_dir=...) needs TensorBoard: pip install 'tfqreg[tensorboard]'"
                ) from error
            self._writer = Writer(log_dir)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds one row."""
        sync(self.model)
        self.rows.append(kernel_figures(self.model))
        if self._writer is not None:
            for kernel, row in self.rows[-1].items():
                for name, value in row.items():
                    self._writer.add_scalar(f"{kernel}/{name}", value, step=epoch)
            self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
