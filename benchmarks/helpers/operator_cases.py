"""One-operator graphs on the grids where runtimes part: ties, ends of ranges, powers of two.

Each function returns a graph of `count` operators of one kind, each with inputs of its own, and
those inputs: all codes, all pairs of codes, or what brings sums to the middle between two codes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tfqreg.export.ir import Graph, Op, Quantization, Tensor

Cases = tuple[Graph, dict[str, np.ndarray]]

_CODES = np.arange(-128, 128).astype(np.int8)
_ACTIVATIONS = ("NONE", "RELU", "RELU6")
_SIGMOID_GRID, _TANH_GRID = (1 / 256, -128), (1 / 128, 0)
# What the exporter keeps ratios of scales within, by operator.
_SMALLEST_QUANTIZE, _LARGEST_QUANTIZE = 1 / 256, 128.0


class _Builder:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph()
        self.inputs: dict[str, np.ndarray] = {}

    def scale(self) -> float:
        """A scale from 2^-12 to 2^4, every second one a power of two."""
        exponent = self.random.uniform(-12, 4)
        return float(
            np.float32(2.0 ** (round(exponent) if self.random.random() < 0.5 else exponent))
        )

    def ratio(self, low: float = 2.0**-6, high: float = 2.0**6) -> float:
        """A ratio of scales: a power of two, the float32 beside one, near one, or anything."""
        exponent = self.random.uniform(np.log2(low), np.log2(high))
        power = np.float32(2.0 ** round(exponent))
        beside = np.nextafter(power, np.float32(self.random.choice([0, np.inf])))
        near = power * np.float32(1 + self.random.uniform(-1e-3, 1e-3))
        found = self.random.choice([power, beside, near, np.float32(2.0**exponent)])
        return float(np.clip(found, low, high))

    def zero_point(self) -> int:
        """Either end, beside it, the middle, or anywhere."""
        ends = [-128, -127, -1, 0, 1, 126, 127]
        return int(self.random.choice([*ends, self.random.integers(-128, 128)]))

    def tensor(self, shape: Sequence[int], scale: float, zero_point: int) -> str:
        grid = Quantization(np.float32(scale), zero_point)
        return self.graph.add(Tensor(f"t{len(self.graph.tensors)}", (1, *shape), quantization=grid))

    def input(self, data: np.ndarray, scale: float, zero_point: int) -> str:
        name = self.tensor(data.shape[1:], scale, zero_point)
        self.graph.inputs.append(name)
        self.inputs[name] = data
        return name

    def constant(self, data: np.ndarray, scale: np.ndarray | None = None, axis: int = 0) -> str:
        grid = None if scale is None else Quantization(scale, axis=axis)
        name = f"t{len(self.graph.tensors)}"
        return self.graph.add(Tensor(name, data.shape, str(data.dtype), grid, data))

    def op(self, kind: str, sources: Sequence[str], target: str, **attributes) -> None:
        self.graph.ops.append(Op(kind, tuple(sources), (target,), attributes))
        self.graph.outputs.append(target)

    def codes(self, shape: Sequence[int], small: bool) -> np.ndarray:
        """Random codes, of the whole range or a few about 0, whose sums tie more often."""
        low, high = (-4, 5) if small else (-128, 128)
        return self.random.integers(low, high, shape).astype(np.int8)


def of_one_code(
    kind: str, count: int, seed: int, grid: tuple[float, int] | None = None, **choices
) -> Cases:
    """Every code at `count` pairs of grids; `choices` of attributes are taken in turns."""
    b = _Builder(seed)
    for i in range(count):
        scale = b.scale()
        # 251 codes leave a rest beside any vector's length.
        codes = _CODES[: 251 if i % 3 == 2 else 256]
        x = b.input(codes[None], scale, b.zero_point())
        limits = (1 / _LARGEST_QUANTIZE, 1 / _SMALLEST_QUANTIZE) if kind == "QUANTIZE" else ()
        target = grid or (scale * b.ratio(*limits), b.zero_point())
        attributes = {name: values[i % len(values)] for name, values in choices.items()}
        b.op(kind, [x], b.tensor(codes.shape, *target), **attributes)
    return b.graph, b.inputs


def of_two_codes(kind: str, count: int, seed: int) -> Cases:
    """All 65,536 pairs, as whole tensors or broadcast."""
    b = _Builder(seed)
    shared = kind in ("MAXIMUM", "MINIMUM")
    for i in range(count):
        first = b.scale(), b.zero_point()
        second = (b.scale() if kind == "MUL" else first[0] * b.ratio()), b.zero_point()
        if shared:
            second = first
        elif kind == "MUL" and i % 3 == 0:
            second = _SIGMOID_GRID  # a gate's
        rows, columns = _CODES.reshape(1, 256, 1), _CODES.reshape(1, 1, 256)
        if i % 2:
            rows, columns = (np.ascontiguousarray(x) for x in np.broadcast_arrays(rows, columns))
        x, y = b.input(rows, *first), b.input(columns, *second)
        # A product of codes goes up to 2^16: 64 times its step fills the output's range.
        scale = 64 * first[0] * second[0] if kind == "MUL" else max(first[0], second[0])
        target = first if shared else (scale * b.ratio(1 / 32, 32), b.zero_point())
        activation = {} if shared else {"activation": _ACTIVATIONS[i // 2 % 3]}
        b.op(kind, [x, y], b.tensor((256, 256), *target), **activation)
    return b.graph, b.inputs


def softmax(count: int, seed: int) -> Cases:
    """Rows of 2 to 1,000 scores: random, normal, all equal."""
    b = _Builder(seed)
    for i in range(count):
        width = (2, 3, 7, 8, 10, 16, 17, 100, 1000)[i % 9]
        codes = b.codes((1, 4000 // width + 8, width), small=False)
        if i % 4 == 1:
            codes = b.random.normal(0, 20, codes.shape).clip(-128, 127).astype(np.int8)
        elif i % 7 == 2:
            codes[:] = 5
        x = b.input(codes, min(b.scale(), 1.0), b.zero_point())
        b.op("SOFTMAX", [x], b.tensor(codes.shape[1:], *_SIGMOID_GRID), beta=1.0)
    return b.graph, b.inputs


def mean(count: int, seed: int) -> Cases:
    """Averages of 1 to 256 pixels, over rows or whole images."""
    b = _Builder(seed)
    sizes = ((1, 1, 8), (2, 2, 8), (3, 3, 5), (7, 7, 16), (7, 1, 4), (16, 16, 3), (10, 10, 8))
    for i in range(count):
        high, wide, depth = sizes[i % len(sizes)]
        scale = b.scale()
        x = b.input(b.codes((60, high, wide, depth), small=i % 2 == 1), scale, b.zero_point())
        axes, keep = [1, 2] if i % 5 else [1], i % 3 == 0
        whole = (1, 1, depth) if keep else (depth,)
        rows = (1, wide, depth) if keep else (wide, depth)
        target = scale * (1, (high * wide) ** -0.5, 1 / 2, 1 / 3, b.ratio())[i % 5]
        y = b.tensor(whole if i % 5 else rows, target, b.zero_point())
        b.op("MEAN", [x, b.constant(np.array(axes, np.int32))], y, keep_dims=keep)
    return b.graph, b.inputs


def pool(kind: str, count: int, seed: int) -> Cases:
    """Windows of 4 to 49 pixels, with and without padding."""
    b = _Builder(seed)
    for i in range(count):
        window, stride = ((2, 2), (3, 3), (5, 3), (7, 7))[i % 4], ((1, 1), (2, 2), (3, 2))[i % 3]
        padding = ("VALID", "SAME")[i % 2]
        codes = b.codes((20, 9, 8, (1, 4, 16, 19)[i % 4]), small=i % 3 == 0)
        grid = b.scale(), b.zero_point()
        over = [w if padding == "VALID" else 1 for w in window]
        size = [(codes.shape[axis + 1] - over[axis]) // stride[axis] + 1 for axis in (0, 1)]
        x, y = b.input(codes, *grid), b.tensor((*size, codes.shape[3]), *grid)
        activation = _ACTIVATIONS[i % 3]
        b.op(kind, [x], y, filter=window, stride=stride, padding=padding, activation=activation)
    return b.graph, b.inputs


def resize(kind: str, count: int, seed: int) -> Cases:
    """Up and down, by whole factors and others."""
    b = _Builder(seed)
    sizes, targets = ((1, 1), (2, 2), (3, 5), (8, 8), (7, 4)), ((2, 2), (4, 4), (9, 10), (13, 6))
    for i in range(count):
        size, target = sizes[i % 5], targets[i % 4]
        codes, grid = (
            b.codes((20, *size, (1, 8, 5)[i % 3]), small=False),
            (b.scale(), b.zero_point()),
        )
        x, y = b.input(codes, *grid), b.tensor((*target, codes.shape[3]), *grid)
        b.op(kind, [x, b.constant(np.array(target, np.int32))], y, half_pixel_centers=True)
    return b.graph, b.inputs


def prelu(count: int, seed: int) -> Cases:
    """Every code, each with slopes by channel or element."""
    b = _Builder(seed)
    for i in range(count):
        scale = b.scale()
        x = b.input(_CODES.reshape(1, 4, 4, 16), scale, b.zero_point())
        slopes = b.random.integers(-127, 128, [(16,), (4, 4, 16), (1, 1, 16), (1,)][i % 4])
        step = np.float32(2.0**-7 if i % 2 else b.random.uniform(0.001, 0.01))
        y = b.tensor((4, 4, 16), scale * b.ratio(), b.zero_point())
        b.op("PRELU", [x, b.constant(slopes.astype(np.int8), np.array([step]))], y)
    return b.graph, b.inputs


# Images, weights, which of whose axes is the channels', and the outputs' pixels.
_PRODUCTS = {
    "FULLY_CONNECTED": ((40, 24), (9, 24), 0, ()),
    "CONV_2D": ((4, 6, 6, 4), (9, 3, 3, 4), 0, (6, 6)),
    "DEPTHWISE_CONV_2D": ((4, 8, 8, 12), (1, 3, 3, 12), 3, (8, 8)),
    "TRANSPOSE_CONV": ((4, 5, 5, 4), (9, 3, 3, 4), 0, (10, 10)),
}


def product(kind: str, count: int, seed: int) -> Cases:
    """Sums of products by channel or by tensor; every second one on grids of powers of two."""
    b = _Builder(seed)
    images, shape, axis, pixels = _PRODUCTS[kind]
    channels = shape[axis]
    for i in range(count):
        ties, scale = i % 2 == 0, b.scale()
        groups = channels if i % 4 < 2 else 1
        random = b.random.integers(-8, -3, groups) if ties else b.random.uniform(-9, -5, groups)
        steps = (2.0**random).astype(np.float32)
        codes = b.codes(shape, ties) if ties else b.random.integers(-127, 128, shape)
        # A sum of n products of random codes is 73^2 sqrt(n) wide: that fills the range.
        wide = 2.0 ** b.random.integers(-3, 3) if ties else float(steps.mean()) * 600
        x, weights = b.input(b.codes(images, False), scale, b.zero_point()), codes.astype(np.int8)
        bias = b.random.integers(-2000, 2000, channels).astype(np.int32)
        parts = [b.constant(weights, steps, axis), b.constant(bias, np.float32(scale) * steps)]
        y = b.tensor((*pixels, channels), scale * wide, b.zero_point())
        activation = _ACTIVATIONS[i % 3]
        if kind == "FULLY_CONNECTED":
            b.op(kind, [x, *parts], y, activation=activation)
        elif kind == "TRANSPOSE_CONV":
            size = b.constant(np.array([1, *pixels, channels], np.int32))
            b.op(kind, [size, parts[0], x, parts[1]], y, stride=(2, 2), padding="SAME")
        else:
            b.op(
                kind, [x, *parts], y, stride=(1, 1), dilation=(1, 1), padding="SAME",
                activation=activation, depth_multiplier=1,
            )  # fmt: skip
    return b.graph, b.inputs


def ends(kind: str, count: int, seed: int) -> Cases:
    """QUANTIZE of float32 halves of steps, DEQUANTIZE of every code."""
    b = _Builder(seed)
    for _ in range(count):
        scale, zero_point = b.scale(), b.zero_point()
        name = f"t{len(b.graph.tensors)}"
        halves = (np.arange(-300, 300) / 2 * np.float64(scale)).astype(np.float32)
        shape = (1, halves.size if kind == "QUANTIZE" else 256)
        b.graph.add(Tensor(name, shape, "float32"))
        if kind == "QUANTIZE":
            b.graph.inputs.append(name)
            b.inputs[name] = halves[None]
            b.op(kind, [name], b.tensor(shape[1:], scale, zero_point))
        else:
            b.op(kind, [b.input(_CODES[None], scale, zero_point)], name)
    return b.graph, b.inputs


_SLOPES = (0.01, 0.3, -0.2, 1.5, 1e-4, 0.25)

# Operators that compute, by their name in the table; those that only move elements have no grids.
CASES: dict[str, Callable[[int, int], Cases]] = {
    **{k: lambda n, s, k=k: of_two_codes(k, n, s) for k in ("ADD", "SUB", "MUL")},
    **{k: lambda n, s, k=k: of_two_codes(k, n, s) for k in ("MAXIMUM", "MINIMUM")},
    **{k: lambda n, s, k=k: of_one_code(k, n, s) for k in ("RELU", "RELU6", "HARD_SWISH")},
    "QUANTIZE": lambda n, s: of_one_code("QUANTIZE", n, s),
    "QUANTIZE of float32": lambda n, s: ends("QUANTIZE", n, s),
    "DEQUANTIZE": lambda n, s: ends("DEQUANTIZE", n, s),
    "LEAKY_RELU": lambda n, s: of_one_code("LEAKY_RELU", n, s, alpha=_SLOPES),
    "LOGISTIC": lambda n, s: of_one_code("LOGISTIC", n, s, _SIGMOID_GRID),
    "TANH": lambda n, s: of_one_code("TANH", n, s, _TANH_GRID),
    "PRELU": prelu,
    "SOFTMAX": softmax,
    "MEAN": mean,
    **{k: lambda n, s, k=k: pool(k, n, s) for k in ("AVERAGE_POOL_2D", "MAX_POOL_2D")},
    **{
        k: lambda n, s, k=k: resize(k, n, s) for k in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
    },
    **{k: lambda n, s, k=k: product(k, n, s) for k in _PRODUCTS},
}
