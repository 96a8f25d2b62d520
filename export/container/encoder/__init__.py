"""From a `.tflite` to the smallest container the format allows.

pack           the public function; puts the parts together
plan           spans, and a codec for each constant of the file
delta          what a delta takes from the file before it
class_choice   classes of the weights of one tensor; clusters them by cluster
table_fit      one table for given codes; wide_bins for codes far apart, symbols for comparing codes
table_merging  which cells of a model use the same table
table_pool     tables for all tensors of a model: classes, merging, and what they cost in truth
tans           the entropy coder: all chunks at once, in lock-step
literals       the rest of the file as LZMA2: by xz, or for few bytes by lzma_encoder
"""
