"""One table for given codes: few bytes for sparse layers, wide bins for rare codes."""

import numpy as np

from tests.export.container.tflite_models import laplace_codes
from tfqreg.export.container.encoder.table_fit import fit_table
from tfqreg.export.container.encoder.tans import PlainChunk, encode_chunks
from tfqreg.export.container.format.table import write_table


def test_table_of_a_sparse_layer_takes_about_ten_bytes() -> None:
    codes = laplace_codes(0, (400_000,), 4, 0.98)
    table = fit_table(codes.astype(np.int64)).table
    assert len(table.frequencies) >= 9
    assert len(write_table(table)) <= 12


def test_rare_codes_share_a_bin() -> None:
    codes = np.zeros(100_000, np.int64)
    codes[:40] = np.arange(-20, 20)
    table = fit_table(codes).table
    assert max(table.extras) >= 2
    ((_, chunk),) = encode_chunks([PlainChunk(codes, (table,))])
    assert len(write_table(table)) + len(chunk) < 160
