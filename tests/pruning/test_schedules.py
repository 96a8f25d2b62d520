"""The cubic ramp, and what a schedule may return."""

import numpy as np
import pytest

from tfqreg.pruning.schedules import cubic, sparsity_at


def test_cubic_by_hand():
    np.testing.assert_allclose(
        [cubic(t) for t in (-1, 0, 0.25, 0.5, 1, 3)], [0, 0, 1 - 0.75**3, 0.875, 1, 1]
    )


def test_share_or_pair():
    assert sparsity_at(lambda step: 0.01 * step, 30) == (True, 0.3)
    assert sparsity_at(lambda step: (step == 30, np.float32(0.5)), 30) == (True, 0.5)
    assert sparsity_at(lambda step: (step == 30, np.float32(0.5)), 31) == (False, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.0, 80.0, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(
        ValueError, match=r"must return a fraction of the weights.* Received: .* at step 7"
    ):
        sparsity_at(lambda step: share, 7)
