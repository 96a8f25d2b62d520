"""From a container back to the `.tflite`: by the compiled C decoder, or by numpy.

unpack      the public function; writes the spans of the output
layout      everything of a container but its coded bytes, read and checked
tensors     the coded bytes of all tensors
tans        the entropy decoder: all chunks at once, in lock-step
neighbours  which table the next symbol of the lock-step decoder takes
native      the same job by the C decoder of export/device
"""
