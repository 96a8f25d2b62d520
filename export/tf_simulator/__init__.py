"""The simulator as a Keras model, computed by TensorFlow at the float model's speed."""
