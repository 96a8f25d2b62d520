"""tfqreg trains sparse, low-precision Keras 3 networks with learnable regularizers.

`quantize` wraps a float model, `fit` trains it as any other, `tfqreg.export` takes it to an integer `.tflite`.
"""

import sys
from pathlib import Path

# Most of the console command needs no Keras, whose import takes seconds; it loads what it needs itself.
IS_COMMAND = bool(sys.argv) and Path(sys.argv[0]).stem == "tfqreg"

if not IS_COMMAND:
    from tfqreg.calibrate import calibrate
    from tfqreg.callbacks import Incremental, Monitor, Stages, callbacks_for, kernel_figures
    from tfqreg.distill import DistillationLoss, distill
    from tfqreg.layers import Quantized, QuantizedActivation
    from tfqreg.pruning.surgery import Surgery
    from tfqreg.quantizers import WRPN, DoReFa, Focused, LearnedBits, PowerOfTwo, Uniform
    from tfqreg.regularizers import MSQE, PartialL2, SinAReQ, SinReQ
    from tfqreg.wrap import Rule, quantize, strip

__all__ = [
    "MSQE",
    "WRPN",
    "DistillationLoss",
    "DoReFa",
    "Focused",
    "Incremental",
    "LearnedBits",
    "Monitor",
    "PartialL2",
    "PowerOfTwo",
    "Quantized",
    "QuantizedActivation",
    "Rule",
    "SinAReQ",
    "SinReQ",
    "Stages",
    "Surgery",
    "Uniform",
    "calibrate",
    "callbacks_for",
    "distill",
    "kernel_figures",
    "quantize",
    "strip",
]
