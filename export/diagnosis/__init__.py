"""Where the accuracy of a quantized model went, tensor by tensor."""
