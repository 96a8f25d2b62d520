"""The proof that a `.tflite` equals its simulator on every runtime."""
