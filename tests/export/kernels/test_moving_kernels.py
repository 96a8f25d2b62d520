"""Kernels that move, resize or spread values: by hand and against plain loops."""

import numpy as np
import pytest

from tests.export import graphs
from tfqreg.export.ir import Graph, Op, Quantization, Tensor
from tfqreg.export.simulator import simulate

GRID = Quantization(np.float32(0.5), 3)


def moved(
    kind: str, x: np.ndarray, shape: tuple[int, ...], *constants, mode: str = "f32", **attributes
) -> np.ndarray:
    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", (1, *x.shape[1:]), quantization=GRID))
    graph.add(Tensor("y", (1, *shape), quantization=GRID))
    names = [f"c{i}" for i in range(len(constants))]
    for name, data in zip(names, constants, strict=True):
        graph.add(Tensor(name, np.shape(data), "int32", None, np.array(data, np.int32)))
    graph.ops.append(Op(kind, ("x", *names), ("y",), attributes))
    return simulate(graph, [x.astype(np.int8)], mode)["y"]


def pixels(*values: int) -> np.ndarray:
    """A row of pixels with one channel."""
    return np.array(values).reshape(1, 1, -1, 1)


def test_nearest_neighbours():
    for factor in range(2, 20):
        found = moved(
            "RESIZE_NEAREST_NEIGHBOR",
            pixels(*range(7)),
            (1, 7 * factor, 1),
            (1, 7 * factor),
            half_pixel_centers=False,
        )
        assert found.ravel().tolist() == np.repeat(np.arange(7), factor).tolist()
    # Centres at 0.83, 2.5 and 4.17.
    found = moved(
        "RESIZE_NEAREST_NEIGHBOR", pixels(0, 1, 2, 3, 4), (1, 3, 1), (1, 3), half_pixel_centers=True
    )
    assert found.ravel().tolist() == [0, 2, 4]


def test_bilinear():
    # Twice as wide: shares of 1/4 and 3/4 of 0, 8, -8.
    for mode in ("f32", "ref"):
        found = moved(
            "RESIZE_BILINEAR",
            pixels(0, 8, -8),
            (1, 6, 1),
            (1, 6),
            mode=mode,
            half_pixel_centers=True,
        )
        assert found.ravel().tolist() == [0, 2, 6, 4, -4, -8]


def test_halves_in_bilinear():
    # (-1 + 0) / 2 = -0.5.
    for mode, expected in (("f32", 0), ("f32-tf", 0), ("ref", -1), ("ref-new", -1)):
        found = moved(
            "RESIZE_BILINEAR", pixels(-1, 0), (1, 1, 1), (1, 1), mode=mode, half_pixel_centers=True
        )
        assert found.ravel().tolist() == [expected]


def test_blocks():
    x = np.arange(8).reshape(1, 1, 2, 4)
    wide = moved("DEPTH_TO_SPACE", x, (2, 4, 1), block_size=2)
    assert wide[0, :, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert (moved("SPACE_TO_DEPTH", wide, (1, 2, 4), block_size=2) == x).all()


def test_slices_and_transposes():
    x = np.arange(24).reshape(2, 3, 4)
    assert (
        moved("STRIDED_SLICE", x, (1, 2), (0, 1, 0), (0, 2, 4), (1, 1, 2)) == x[:, 1:2, ::2]
    ).all()
    assert (moved("TRANSPOSE", x, (4, 3), (0, 2, 1)) == x.transpose(0, 2, 1)).all()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("window", "stride"), [((3, 2), (2, 3)), ((4, 4), (2, 2)), ((1, 1), (1, 1))]
)
def test_transposed_convolution_spreads_every_pixel(window, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-20, 20, (1, 4, 3, 2)).astype(np.int8)
    weights = rng.integers(-9, 9, (5, *window, 2)).astype(np.int8)
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], stride, window, strict=True)]
    size = [
        n * s if padding == "SAME" else max(m, n * s)
        for n, s, m in zip(x.shape[1:3], stride, full, strict=True)
    ]
    spread = np.zeros((*np.maximum(full, size), 5), int)
    for i, j, a, b in np.ndindex(4, 3, *window):
        spread[i * stride[0] + a, j * stride[1] + b] += weights[:, a, b].astype(int) @ (
            x[0, i, j].astype(int) - 3
        )
    first = [
        max(n - m, 0) // 2 if padding == "SAME" else 0 for n, m in zip(full, size, strict=True)
    ]
    expected = spread[first[0] :, first[1] :][: size[0], : size[1]] + 7

    graph = Graph(inputs=["x"], outputs=["y"])
    graph.add(Tensor("x", x.shape, quantization=GRID))
    graph.add(Tensor("shape", (4,), "int32", None, np.array([1, *size, 5], np.int32)))
    graph.add(Tensor("w", weights.shape, "int8", Quantization(np.float32(2)), weights))
    graph.add(Tensor("b", (5,), "int32", Quantization(np.float32(1)), np.full(5, 7, np.int32)))
    graph.add(Tensor("y", (1, *size, 5), quantization=Quantization(np.float32(1))))
    graph.ops.append(
        Op(
            "TRANSPOSE_CONV",
            ("shape", "w", "x", "b"),
            ("y",),
            {"padding": padding, "stride": stride},
        )
    )
    assert (simulate(graph, [x])["y"][0] == np.clip(expected, -128, 127)).all()


def test_groups_read_their_own_channels():
    b = graphs.Builder(0)
    x = b.input((4, 4, 6))
    whole = graphs.conv(b, x, 4)
    kernel, bias = b.graph.ops[-1].inputs[1:]
    codes = b.graph.tensors[kernel].data
    assert codes is not None
    # The same sums with zeros where a group does not look.
    codes[:2, ..., 3:] = 0
    codes[2:, ..., :3] = 0
    narrow = np.concatenate([codes[:2, ..., :3], codes[2:, ..., 3:]])
    grouped = b.constant("w", narrow, b.quantization(kernel).scale)
    b.graph.add(Tensor("grouped", b.graph.tensors[whole].shape, quantization=b.quantization(whole)))
    b.op("CONV_2D", [x, grouped, bias], "grouped", **b.graph.ops[-1].attributes)
    found = simulate(b.finish(), graphs.codes(b.graph, 3))
    assert (found["grouped"] == found[whole]).all()
    assert len(np.unique(found[whole])) > 50
