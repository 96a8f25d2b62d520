"""The graph of a Keras model: flat, rewritten where an integer form asks for it, and where
quantizers go.
"""
