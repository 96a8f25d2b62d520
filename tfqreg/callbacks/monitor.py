"""One row of figures per kernel and epoch: coefficient, error to the grid, sparsity, scale."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.callbacks.progress import sync
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.queries import quantized_layers
from tfqreg.quantizers import LearnedBits, MultiBit
from tfqreg.quantizers.multibit import bases_per_weight


def kernel_figures(model: keras.Model) -> dict[str, dict[str, float]]:
    """Returns, by "layer/kernel", the figures that show how far training has come.

    | figure | what it is |
    |---|---|
    | `grid_error` | `sqrt(mean (w - Q(w))^2) / scale` over the surviving weights |
    | `sparsity` | the fraction of zero codes |
    | `scale` | the mean scale |
    | `bits` | the width of the codes |
    | `stage` | 0 while pruning, 1 when quantized, 2 when settling |
    | `coefficient`, `prune_coefficient` | the strengths of the penalties, if there are any |
    | `beta` | the learned bits of `LearnedBits`, without the sign |
    | `average_bits` | bases per weight of `MultiBit` |

    Weights spread evenly between the levels have a `grid_error` of `sqrt(1/12)`, 0.29.

    Args:
        model: a model with wrapped layers.

    Example:
        >>> import tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> quantized = tq.quantize(model, [tq.Rule("head", tq.Uniform(bits=4))])
        >>> row = kernel_figures(quantized)["head/kernel"]
        >>> sorted(row), row["bits"], row["grid_error"] < 0.5
        (['bits', 'grid_error', 'scale', 'sparsity', 'stage'], 4.0, True)
    """
    figures: dict[str, dict[str, float]] = {}
    for layer in quantized_layers(model):
        for quantized_kernel, weights in layer.kernel_pairs():
            name = f"{layer.name}/{quantized_kernel.name}"
            # Nested models may repeat a name.
            twins = sum(key.split(":")[0] == name for key in figures)
            figures[f"{name}:{twins}" if twins else name] = _row(quantized_kernel, weights)
    return figures


def _row(quantized_kernel: QuantizedKernel, weights: keras.Variable) -> dict[str, float]:
    codes, params = quantized_kernel.encode(weights)
    scale, mask = float(np.mean(params["scale"])), quantized_kernel.mask
    alive = quantized_kernel.count if mask is None else int(ops.convert_to_numpy(mask).sum())
    squares = _float(quantized_kernel.grid_squares(weights))
    row = {
        "grid_error": float(np.sqrt(squares / max(alive, 1))) / scale,
        "sparsity": 1.0 - np.count_nonzero(codes) / codes.size,
        "scale": scale,
        "bits": float(params["bits"]),
        "stage": _float(quantized_kernel.stage),
    }
    quantizer, state = quantized_kernel.quantizer, quantized_kernel.state
    if isinstance(quantizer, LearnedBits):
        row["beta"] = _float(ops.sum(quantizer.beta(state)))
    if isinstance(quantizer, MultiBit):
        row["average_bits"] = bases_per_weight(state)
    if quantized_kernel.regularizer is not None:
        row["coefficient"] = _float(quantized_kernel.regularizer.strength_now)
    if quantized_kernel.prune is not None:
        row["prune_coefficient"] = _float(quantized_kernel.prune.strength_now)
    return row


def _float(value: Any) -> float:
    return float(ops.convert_to_numpy(value))


class Monitor(keras.callbacks.Callback):
    """Keeps `kernel_figures` of every epoch in `rows`, and writes them for TensorBoard if asked.

    Args:
        log_dir: folder of TensorBoard event files; needs the extra `tensorboard`. None, the
            default, keeps `rows` alone.

    Raises:
        ImportError: if `log_dir` is given and tensorboard is not installed.

    Example:
        >>> import tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> quantized, monitor = tq.quantize(model), Monitor()
        >>> quantized.compile("adam", "mse")
        >>> x, y = np.eye(4), np.eye(4)[:, :2]
        >>> history = quantized.fit(x, y, epochs=2, callbacks=[monitor], verbose=0)
        >>> [row["head/kernel"]["bits"] for row in monitor.rows]
        [8.0, 8.0]
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
            for path, row in self.rows[-1].items():
                for name, value in row.items():
                    self._writer.add_scalar(f"{path}/{name}", value, step=epoch)
            self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
