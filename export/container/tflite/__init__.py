"""What the encoder and `inspect` know of a `.tflite`; the decoder must not need it."""
