"""What goes wrong in training without an error: said aloud, with the layer and the number."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.regularizers import Penalty

# Above this fraction of zero codes something is wrong with the scale: of Gaussian weights on the
# three levels of least squared error, the coarsest grid with a 0, 46 % are 0.
MOST_ZEROS = 0.9


def warn_of_zeros(quantized_kernel: QuantizedKernel, weights: keras.Variable) -> None:
    """Warns of a kernel whose surviving weights quantize to 0 for more than nine in ten."""
    alive = ops.convert_to_numpy(quantized_kernel.surviving(weights))
    mask = quantized_kernel.mask
    alive_mask = np.ones(alive.shape, bool) if mask is None else ops.convert_to_numpy(mask)
    if not np.isfinite(alive).all() or not alive.any():
        return  # `warn_of_divergence` has said so, or the kernel itself
    codes, params = quantized_kernel.encode(weights)
    zeros = float(np.mean(codes[alive_mask] == 0)) if alive_mask.any() else 0.0
    if zeros <= MOST_ZEROS:
        return
    # The start of LSQ (Esser et al. 2020, arXiv 1902.08153): it follows the many small weights, not
    # the few large.
    highest_code = max(1, 2 ** (params["bits"] - 1) - 1)
    scale = 2.0 * float(np.abs(alive[alive_mask]).mean()) / math.sqrt(highest_code)
    warnings.warn(
        f"{weights.path}: {zeros:.0%} of the weights are 0 as quantization starts. Use more bits, "
        f"one scale per channel, or a scale of {scale:.3g}. Received: bits={params['bits']}, "
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
        f"{type(penalty).__name__} of {', '.join(paths)}: the coefficient diverged by step {step}. "
        f"Lower its alpha or the learning rate, and start from the last sound weights. "
        f"Received: coefficient={strength}",
        stacklevel=2,
    )
    return True
