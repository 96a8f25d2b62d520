"""The simulator as a Keras model: the same integers, computed by TensorFlow at the float model's
speed.
"""
