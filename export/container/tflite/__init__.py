"""What the container knows of a `.tflite`. The decoder must not need it, so it has a room apart."""
