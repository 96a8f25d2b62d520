"""From a `.tflite` to the smallest container the format allows."""
