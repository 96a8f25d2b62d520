"""The operators of TFLite in numpy, each bit for bit as the runtimes compute it."""
