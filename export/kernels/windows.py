"""The sliding windows of convolutions and pools: padding as TFLite counts it, and a view."""

import numpy as np

Pair = tuple[int, int]


def padding_before_after(size: int, window: int, stride: int, padding: str) -> Pair:
    """Rows to add before and after one axis; with SAME the odd one goes after."""
    if padding == "VALID":
        return 0, 0
    total = max(-stride_remainder(size, window, stride), 0)
    return total // 2, total - total // 2


def stride_remainder(size: int, window: int, stride: int) -> int:
    """Rows that SAME's last window leaves unread; negative if it needs rows of padding."""
    return size - (-(-size // stride) - 1) * stride - window


def windows(
    x: np.ndarray,
    window: Pair,
    stride: Pair,
    padding: str,
    dilation: Pair = (1, 1),
    fill: float = 0,
) -> np.ndarray:
    """Every window of a batch of images, as a view.

    Args:
        x: (n, h, w, c).
        window, stride, dilation: (h, w).
        padding: "SAME" or "VALID".
        fill: the value of padded elements.

    Returns:
        (n, out_h, out_w, window_h, window_w, c).
    """
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    pads = [padding_before_after(x.shape[i + 1], reach[i], stride[i], padding) for i in (0, 1)]
    if any(map(any, pads)):
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    high, wide = ((x.shape[i + 1] - reach[i]) // stride[i] + 1 for i in (0, 1))
    batch, row, column, channel = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (x.shape[0], high, wide, *window, x.shape[3]),
        (
            batch,
            row * stride[0],
            column * stride[1],
            row * dilation[0],
            column * dilation[1],
            channel,
        ),
        writeable=False,
    )
