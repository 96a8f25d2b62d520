"""Layers of a user's own."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tests")
class Bilinear(keras.layers.Layer):
    """x K x^T + b: calls its weight `kernel`."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], input_shape[-1]), name="kernel")
        self.bias = self.add_weight(shape=(1,), initializer="zeros", name="bias")

    def call(self, x):
        return ops.sum(ops.matmul(x, self.kernel) * x, axis=-1, keepdims=True) + self.bias


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.layers.Layer):
    """x K, counting its training calls and adding a loss of its own."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2), name="kernel")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x, training=False):
        if training:
            self.calls.assign(self.calls + 1)
        self.add_loss(ops.mean(x))
        return ops.matmul(x, self.kernel)


@keras.saving.register_keras_serializable(package="tests")
class TwoLayers(keras.Model):
    """A subclassed model, wrapped by hand."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        import tfqreg as tq

        regularizer = tq.MSQE()
        self.body = tq.Quantized(
            keras.layers.Dense(8, activation="relu"), tq.Uniform(4), regularizer, tq.PartialL2(0.5)
        )
        self.grid = tq.QuantizedActivation(4)
        self.head = tq.Quantized(keras.layers.Dense(1), tq.Uniform(8), regularizer)

    def call(self, x, training=False):
        return self.head(self.grid(self.body(x), training=training))
