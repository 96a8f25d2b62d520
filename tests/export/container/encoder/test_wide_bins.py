"""Tables for codes far apart: a few outliers do not spoil the bins of all others."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfqreg.export.container.encoder.table_fit import fit_table
from tfqreg.export.container.encoder.wide_bins import halve
from tfqreg.export.container.format.table import write_table


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=60))
def test_every_code_is_in_its_bin(codes: list[int]) -> None:
    first, extras, counts = halve(np.sort(np.array(codes, np.int64)))
    starts = first + np.cumsum([0, *(1 << extra for extra in extras)])
    assert np.histogram(codes, starts.astype(np.float64))[0].tolist() == counts.tolist()
    assert counts[0] and counts[-1]
    assert max(extras) <= 32


def test_outliers_cost_only_themselves() -> None:
    """1,152 biases, three of them of 30 bits; the others log2(8000 sqrt(2 pi e)) = 15.0 bits."""
    codes = np.rint(np.random.default_rng(0).normal(size=1152) * 8000).astype(np.int64)
    codes[::400] = -796_336_690
    found = fit_table(codes)
    assert (found.data_bits + 8 * len(write_table(found.table))) / len(codes) < 15.5
