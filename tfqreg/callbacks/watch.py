"""What goes wrong in training without an error: said aloud, with the layer and the number."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.regularizers import Penalty

MOST_ZEROS = 0.9


def warn_of_zeros(kernel: QuantizedKernel, w: keras.Variable) -> None:
    """Warns of a kernel whose surviving weights quantize to 0 for more than nine in ten.

    Args:
        kernel: the `QuantizedKernel`.
        w: its float weights.
    """
    alive = ops.convert_to_numpy(kernel.surviving(w))
    alive_mask = (
        np.ones(alive.shape, bool) if kernel.mask is None else ops.convert_to_numpy(kernel.mask)
    )
    if not np.isfinite(alive).all():
        return  # the coefficient tells
    codes, params = kernel.encode(w)
    share = float(np.mean(codes[alive_mask] == 0)) if alive_mask.any() else 0.0
    if share <= MOST_ZEROS:
        return
    # The start of LSQ (Esser et al. 2020, arXiv 1902.08153): it follows the many small weights, not
    # the few large.
    scale = (
        2.0
        * float(np.abs(alive[alive_mask]).mean())
        / math.sqrt(max(1, 2 ** (params["bits"] - 1) - 1))
    )
    warnings.warn(
        f"{w.path}: {share:.0%} of the weights are 0 as quantization starts. Use more bits, one "
        f"scale a channel, or a "
        f"scale of {scale:.3g}. Received: bits={params['bits']}, "
        f"scale={float(np.max(params['scale'])):.3g}",
        stacklevel=2,
    )


def warn_of_divergence(paths: list[str], penalty: Penalty, step: int) -> bool:
    """Warns of a coefficient that is no finite number; returns whether it did.

    Args:
        paths: the kernels it acts on.
        penalty: what it belongs to.
        step: where training stands.
    """
    strength = float(ops.convert_to_numpy(penalty.strength_now))
    if math.isfinite(strength):
        return False
    warnings.warn(
        f"{type(penalty).__name__} of {', '.join(paths)}: the coefficient diverged by step "
        f"{step}. Lower its alpha or "
        f"the learning rate, and start from the last sound weights. Received: "
        f"coefficient={strength}",
        stacklevel=2,
    )
    return True
