"""From a quantized Keras model to a phone.

The integer graph, the `.tflite`, the container, and the proof that they agree. What is public
stands in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
