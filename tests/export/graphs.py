"""Small random integer graphs: one function an operator, and nets that mix them."""

import numpy as np

from tfqreg.export.ir import Graph, Op, Quantization, Tensor


class Builder:
    """Adds operators with random weights, and scales at which outputs fill the int8 range."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph()

    def input(
        self, shape: tuple[int, ...], scale: float | None = None, zero_point: int | None = None
    ) -> str:
        name = self.activation("x", shape, scale, zero_point)
        self.graph.inputs.append(name)
        return name

    def activation(
        self,
        stem: str,
        shape: tuple[int, ...],
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> str:
        if scale is None:
            scale = float(self.rng.uniform(0.01, 0.05))
        if zero_point is None:
            zero_point = int(self.rng.choice([-128, 0, 112, 127, self.rng.integers(-128, 128)]))
        name = f"{stem}{len(self.graph.tensors)}"
        return self.graph.add(
            Tensor(name, (1, *shape), quantization=Quantization(np.float32(scale), zero_point))
        )

    def constant(
        self, stem: str, data: np.ndarray, scale: np.ndarray | None = None, axis: int = 0
    ) -> str:
        quantization = None if scale is None else Quantization(scale, axis=axis)
        name = f"{stem}{len(self.graph.tensors)}"
        return self.graph.add(Tensor(name, data.shape, str(data.dtype), quantization, data))

    def op(self, kind: str, inputs: list[str], output: str, **attributes) -> str:
        self.graph.ops.append(Op(kind, tuple(inputs), (output,), attributes))
        return output

    def finish(self, *outputs: str) -> Graph:
        self.graph.outputs = list(outputs) or [self.graph.ops[-1].outputs[0]]
        return self.graph

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.tensors[name].shape[1:]

    def quantization(self, name: str) -> Quantization:
        found = self.graph.tensors[name].quantization
        assert found is not None
        return found

    def weights(self, source: str, shape, channels: int, per_channel: bool, axis: int, fan_in: int):
        """Random codes, a bias of their accumulators' size, and the scale that the output should
        have.
        """
        count = channels if per_channel else 1
        scale = self.rng.uniform(0.002, 0.02, count).astype(np.float32)
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        spread = 73 * 73 * fan_in**0.5
        bias = self.rng.normal(0, spread, channels).astype(np.int32)
        source_scale = self.quantization(source).scale
        w = self.constant("w", codes, scale, axis)
        b = self.constant("b", bias, source_scale * scale)
        return w, b, float(source_scale[0] * scale.mean() * spread / 50)


def out_size(size: int, window: int, stride: int, padding: str, dilation: int = 1) -> int:
    reach = (window - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size - reach) // stride + 1


def _out_hw(shape, window, stride, padding, dilation=(1, 1)) -> tuple[int, int]:
    return tuple(out_size(shape[i], window[i], stride[i], padding, dilation[i]) for i in (0, 1))  # type: ignore


def conv(
    b: Builder, x: str, channels: int, window=(3, 3), stride=(1, 1), padding="SAME",
    dilation=(1, 1), activation="NONE", per_channel=True, bias=True,
) -> str:  # fmt: skip
    h, w, c = b.shape(x)
    names = b.weights(
        x, (channels, *window, c), channels, per_channel, 0, window[0] * window[1] * c
    )
    out = b.activation(
        "conv", (*_out_hw((h, w), window, stride, padding, dilation), channels), names[2]
    )
    inputs = [x, *names[: 2 if bias else 1]]
    return b.op(
        "CONV_2D",
        inputs,
        out,
        padding=padding,
        stride=stride,
        dilation=dilation,
        activation=activation,
    )


def depthwise(
    b: Builder, x: str, multiplier=1, window=(3, 3), stride=(1, 1), padding="SAME", dilation=(1, 1),
    activation="NONE", per_channel=True,
) -> str:  # fmt: skip
    h, w, c = b.shape(x)
    channels = c * multiplier
    names = b.weights(x, (1, *window, channels), channels, per_channel, 3, window[0] * window[1])
    out = b.activation(
        "dw", (*_out_hw((h, w), window, stride, padding, dilation), channels), names[2]
    )
    return b.op(
        "DEPTHWISE_CONV_2D", [x, *names[:2]], out, padding=padding, stride=stride,
        dilation=dilation, activation=activation, depth_multiplier=multiplier,
    )  # fmt: skip


def dense(b: Builder, x: str, units: int, activation="NONE", per_channel=False, bias=True) -> str:
    size = int(np.prod(b.shape(x)))
    names = b.weights(x, (units, size), units, per_channel, 0, size)
    out = b.activation("fc", (units,), names[2])
    return b.op("FULLY_CONNECTED", [x, *names[: 2 if bias else 1]], out, activation=activation)


def add(b: Builder, x: str, y: str, activation="NONE", scale: float | None = None) -> str:
    if scale is None:
        scale = float(np.hypot(b.quantization(x).scale[0], b.quantization(y).scale[0]))
    return b.op("ADD", [x, y], b.activation("add", b.shape(x), scale), activation=activation)


def pool(
    b: Builder, x: str, kind: str, window=(2, 2), stride=(2, 2), padding="VALID", activation="NONE"
) -> str:
    h, w, c = b.shape(x)
    q = b.quantization(x)
    out = b.activation(
        "pool", (*_out_hw((h, w), window, stride, padding), c), q.scale[0], q.zero_point
    )
    return b.op(
        kind, [x], out, filter=window, stride=stride, padding=padding, activation=activation
    )


def mean(b: Builder, x: str, keep_dims=False, scale: float | None = None) -> str:
    h, w, c = b.shape(x)
    if scale is None:
        scale = float(b.quantization(x).scale[0]) / (h * w) ** 0.5
    out = b.activation("mean", (1, 1, c) if keep_dims else (c,), scale)
    return b.op(
        "MEAN", [x, b.constant("axes", np.array([1, 2], np.int32))], out, keep_dims=keep_dims
    )


def concatenation(b: Builder, *parts: str) -> str:
    q = b.quantization(parts[0])
    h, w, _ = b.shape(parts[0])
    channels = sum(b.shape(p)[2] for p in parts)
    out = b.activation("concat", (h, w, channels), q.scale[0], q.zero_point)
    return b.op("CONCATENATION", list(parts), out, axis=3)


def reshape(b: Builder, x: str, shape: tuple[int, ...]) -> str:
    q = b.quantization(x)
    out = b.activation("reshape", shape, q.scale[0], q.zero_point)
    return b.op("RESHAPE", [x], out, shape=(1, *shape))


def pad(b: Builder, x: str, before_after=((1, 1), (0, 2))) -> str:
    h, w, c = b.shape(x)
    q = b.quantization(x)
    (top, bottom), (left, right) = before_after
    out = b.activation("pad", (h + top + bottom, w + left + right, c), q.scale[0], q.zero_point)
    paddings = b.constant("paddings", np.array([[0, 0], *before_after, [0, 0]], np.int32))
    return b.op("PAD", [x, paddings], out)


def unary(b: Builder, x: str, kind: str, ratio: float | None = None) -> str:
    """RELU, RELU6 or QUANTIZE: an output scale of its own."""
    scale = float(b.quantization(x).scale[0]) * (b.rng.uniform(0.3, 3) if ratio is None else ratio)
    return b.op(kind, [x], b.activation(kind.lower(), b.shape(x), scale))


def same_scale(b: Builder, x: str, stem: str) -> str:
    q = b.quantization(x)
    return b.activation(stem, b.shape(x), q.scale[0], q.zero_point)


def maximum(b: Builder, x: str, code: int = -7) -> str:
    low = b.graph.add(Tensor(f"low{x}", (1,), "int8", b.quantization(x), np.array([code], np.int8)))
    return b.op("MAXIMUM", [x, low], same_scale(b, x, "max"))


def softmax(b: Builder, x: str, beta: float = 1.0) -> str:
    return b.op("SOFTMAX", [x], b.activation("softmax", b.shape(x), 1 / 256, -128), beta=beta)


def codes(graph: Graph, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random int8 samples for every input."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(-128, 128, (count, *graph.tensors[name].shape[1:])).astype(np.int8)
        for name in graph.inputs
    }


def every_operator(seed: int) -> Graph:
    """One input and every operator after it, in the variants that have a kernel of their own."""
    b = Builder(seed)
    x = b.input((9, 8, 4))
    for activation in ("NONE", "RELU", "RELU6"):
        conv(b, x, 7, (2, 3), (1, 2), "VALID", activation=activation)
        add(b, x, unary(b, x, "QUANTIZE"), activation)
        pool(b, x, "MAX_POOL_2D", (3, 3), (2, 2), "SAME", activation)
        pool(b, x, "AVERAGE_POOL_2D", (3, 3), (2, 2), "SAME", activation)
    conv(b, x, 6, (3, 3), (2, 1), per_channel=False)
    conv(b, x, 5, (3, 3), dilation=(2, 3))
    conv(b, x, 8, (1, 1), (2, 2), activation="RELU")
    depthwise(b, x, 1, (3, 3), (2, 2), activation="RELU6")
    depthwise(b, x, 3, (3, 2), padding="VALID")
    depthwise(b, x, 1, (3, 3), dilation=(2, 2), per_channel=False)
    row = reshape(b, x, (288,))
    pool(b, x, "AVERAGE_POOL_2D", (9, 8), (1, 1))
    concatenation(b, x, maximum(b, x), x)
    conv(b, pad(b, x), 3, (3, 3), (2, 2), "VALID")
    unary(b, x, "RELU")
    unary(b, x, "RELU6")
    keep = mean(b, x, keep_dims=True)
    scores = dense(b, mean(b, x), 11, "RELU", per_channel=True)
    softmax(b, dense(b, row, 10))
    softmax(b, scores, beta=3.0)
    dense(b, keep, 4, "RELU6", bias=False)
    return b.finish()


def residual_net(seed: int) -> Graph:
    """Depthwise and residual blocks, a pad, pools, a mean and a softmax: everything feeds
    everything.
    """
    b = Builder(seed)
    x = conv(b, b.input((13, 10, 3)), 8, (3, 3), (2, 2), activation="RELU")
    y = conv(b, depthwise(b, x, 2, activation="RELU6"), 8, (1, 1))
    x = add(b, x, y, "RELU")
    y = conv(b, x, 8, (3, 3), per_channel=False, dilation=(2, 2))
    x = concatenation(b, add(b, x, y), b.graph.ops[-1].outputs[0])
    x = pool(b, pad(b, x), "MAX_POOL_2D", (3, 3), (2, 2), "SAME")
    x = pool(b, maximum(b, x), "AVERAGE_POOL_2D", (2, 2), (1, 1))
    return b.finish(softmax(b, dense(b, mean(b, x), 12, per_channel=True)))


def float_io(seed: int, units: int = 6) -> Graph:
    """float32 in, QUANTIZE, a dense layer, DEQUANTIZE, float32 out."""
    b = Builder(seed)
    source = b.graph.add(Tensor("input", (1, 20), "float32"))
    codes = b.op("QUANTIZE", [source], b.activation("codes", (20,)))
    result = b.graph.add(Tensor("output", (1, units), "float32"))
    b.op("DEQUANTIZE", [dense(b, codes, units)], result)
    b.graph.inputs = [source]
    return b.finish()
