"""tfqreg trains sparse, low-precision Keras 3 networks with learnable regularizers.

`quantize` wraps a float model, `fit` trains it as any other, `tfqreg.export` takes it to an integer
`.tflite`.

What is public stands in `__init__.pyi`. It loads at its first use, so that importing tfqreg costs
nothing.
"""

import lazy_loader

from tfqreg import _serialization

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_serialization.register_once_keras_is_there()
