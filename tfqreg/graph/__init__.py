"""The graph of a Keras model: flat, rewritten for integers, and with places for quantizers."""
