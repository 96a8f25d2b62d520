"""tfqreg trains sparse, low-precision Keras 3 networks with learnable regularizers.

`quantize` wraps a float model, `fit` trains it as any other, `tfqreg.export` takes it to an integer `.tflite`.
"""

from tfqreg.callbacks import Monitor, Stages, callbacks_for, kernel_figures
from tfqreg.layers import Quantized, QuantizedActivation
from tfqreg.quantizers import Uniform
from tfqreg.regularizers import MSQE, PartialL2
from tfqreg.wrap import Rule, calibrate, quantize, strip

__all__ = [
    "MSQE",
    "Monitor",
    "PartialL2",
    "Quantized",
    "QuantizedActivation",
    "Rule",
    "Stages",
    "Uniform",
    "calibrate",
    "callbacks_for",
    "kernel_figures",
    "quantize",
    "strip",
]
