"""tfqreg trains sparse, low-precision Keras 3 networks with learnable regularizers.

`quantize` wraps a float model, `fit` trains it as any other, `tfqreg.export` takes it to an integer `.tflite`.
"""

import sys
from pathlib import Path

# Most of the console command needs no Keras, whose import takes seconds; it loads what it needs itself.
IS_COMMAND = bool(sys.argv) and Path(sys.argv[0]).stem == "tfqreg"

if not IS_COMMAND:
    from tfqreg import recipes
    from tfqreg.calibrate import calibrate
    from tfqreg.callbacks import (
        ALQRounds,
        BitsBudget,
        Incremental,
        Monitor,
        SizeBudget,
        Stages,
        StopWhenSettled,
        callbacks_for,
        kernel_figures,
    )
    from tfqreg.dead_units import remove_dead_units
    from tfqreg.distill import DistillationLoss, distill
    from tfqreg.layers import LearnedRange, MultiBitRange, Quantized, QuantizedActivation, UnitRange
    from tfqreg.norms import reestimate_norms
    from tfqreg.optimizers import ALQ
    from tfqreg.projection import project
    from tfqreg.pruning.bases import average_bits
    from tfqreg.pruning.rate_distortion import RateDistortion
    from tfqreg.pruning.surgery import Surgery
    from tfqreg.quantizers import WRPN, DoReFa, Focused, LearnedBits, MultiBit, PowerOfTwo, Uniform
    from tfqreg.regularizers import MSQE, Dampening, PartialL2, QSin, Rate, SinAReQ, SinReQ
    from tfqreg.weak_units import drop_weak_units
    from tfqreg.wrap import Rule, quantize, strip

# fmt: off
__all__ = [
    "ALQ", "MSQE", "WRPN", "ALQRounds", "BitsBudget", "Dampening", "DistillationLoss", "DoReFa", "Focused",
    "Incremental", "LearnedBits", "LearnedRange", "Monitor", "MultiBit", "MultiBitRange", "PartialL2",
    "PowerOfTwo", "QSin", "Quantized", "QuantizedActivation", "Rate", "RateDistortion", "Rule", "SinAReQ",
    "SinReQ", "SizeBudget", "Stages", "StopWhenSettled", "Surgery", "Uniform", "UnitRange", "average_bits",
    "calibrate", "callbacks_for", "distill", "drop_weak_units", "kernel_figures", "project", "quantize",
    "recipes", "reestimate_norms", "remove_dead_units", "strip",
]
# fmt: on
