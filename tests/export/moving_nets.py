"""Random nets of what keras_nets leaves out: groups, rows, transposed convolutions, resizing, and
what moves values.
"""

from collections.abc import Callable

import keras
from keras import layers, ops

from tests.export import keras_nets as nets
from tests.export.keras_nets import Tensor

LARGEST_IMAGE = 20
LARGEST_DEPTH = 64


class MovingGrammar(nets.Grammar):
    """The grammar of keras_nets with a second table of steps."""

    def steps(self) -> list[Callable[[Tensor], Tensor]]:
        usual = [
            self.conv,
            self.depthwise,
            self.norm,
            self.relu,
            self.pool,
            self.residual,
            self.dense_block,
        ]
        return [
            *usual, self.grouped, self.transposed, self.resize, self.blocks, self.part,
            self.two_parts, self.permute, self.shuffle, self.pointwise, self.rows, self.pad,
            self.beside, self.reshapes,
        ]  # fmt: skip

    def small(self, x: Tensor) -> Tensor:
        """The image, averaged where it grew beyond what is worth the time."""
        high, wide, depth = x.shape[1:]
        x = layers.Conv2D(6, 1, name=self.name("narrow"))(x) if depth > LARGEST_DEPTH else x
        return (
            layers.AveragePooling2D(4, name=self.name("shrink"))(x)
            if min(high, wide) > LARGEST_IMAGE
            else x
        )

    def grouped(self, x: Tensor) -> Tensor:
        groups = next(g for g in (4, 3, 2, 1) if x.shape[-1] % g == 0)
        filters = groups * self.choose(1, 2, 3)
        layer = layers.Conv2D(
            filters,
            groups=groups,
            activation=self.activation(),
            name=self.name("grouped"),
            **self.window(x),
        )
        return self.after_linear(layer(x))

    def transposed(self, x: Tensor) -> Tensor:
        layer = layers.Conv2DTranspose(
            self.choose(2, 5),
            self.choose(1, 2, 3, (3, 2), 4),
            self.choose(1, 2, 2, (1, 2), 3),
            self.choose("same", "valid"),
            activation=self.activation(),
            use_bias=self.choose(True, False),
            name=self.name("up"),
        )
        return self.small(self.after_linear(layer(x)))

    def resize(self, x: Tensor) -> Tensor:
        interpolation = self.choose("nearest", "bilinear")
        size = self.choose(1, 2), self.choose(1, 2, 3)
        high, wide = (int(self.rng.integers(1, 14)) for _ in range(2))
        return self.small(
            self.choose(
                layers.UpSampling2D(size, interpolation=interpolation, name=self.name("up")),
                layers.Resizing(high, wide, interpolation, name=self.name("resize")),
                lambda x: ops.image.resize(x, (high, wide), interpolation),
            )(x)
        )

    def blocks(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 4 == 0 and self.rng.random() < 0.7:
            return ops.depth_to_space(x, 2)
        return ops.space_to_depth(x, 2) if x.shape[1] % 2 == x.shape[2] % 2 == 0 else x

    def part(self, x: Tensor) -> Tensor:
        high, wide, depth = x.shape[1:]
        if min(high, wide, depth) < 3:
            return x
        return self.choose(
            layers.Cropping2D(((1, 0), (0, 1)), name=self.name("crop")),
            lambda x: x[:, 1:, :-1],
            lambda x: x[:, ::2, ..., 1:],
            lambda x: ops.expand_dims(x[:, 0], 1),
        )(x)

    def two_parts(self, x: Tensor) -> Tensor:
        axis = int(self.rng.integers(1, 4))
        if x.shape[axis] < 2:
            return x
        first, second = ops.split(x, [x.shape[axis] // 2], axis=axis)
        second = self.same_shape(second) if self.rng.random() < 0.5 else second
        return layers.Concatenate(axis=axis, name=self.name("join"))([second, first])

    def permute(self, x: Tensor) -> Tensor:
        return self.choose(
            layers.Permute((2, 1, 3), name=self.name("permute")),
            layers.Permute((3, 1, 2), name=self.name("permute")),
            lambda x: ops.transpose(x, (0, 2, 3, 1)),
            lambda x: ops.swapaxes(x, 1, -1),
            lambda x: ops.moveaxis(x, 1, 3),
        )(x)

    def shuffle(self, x: Tensor) -> Tensor:
        high, wide, depth = x.shape[1:]
        groups = next(g for g in (3, 2, 1) if depth % g == 0)
        x = layers.Reshape((high, wide, groups, depth // groups), name=self.name("groups"))(x)
        return ops.reshape(
            layers.Permute((1, 2, 4, 3), name=self.name("shuffle"))(x), (-1, high, wide, depth)
        )

    def pointwise(self, x: Tensor) -> Tensor:
        if self.rng.random() < 0.5:
            return self.after_linear(
                layers.Dense(5, activation=self.activation(), name=self.name("point"))(x)
            )
        shape = x.shape[1], x.shape[2], 4
        return self.after_linear(
            layers.EinsumDense("nhwc,cd->nhwd", shape, bias_axes="d", name=self.name("einsum"))(x)
        )

    def rows(self, x: Tensor) -> Tensor:
        """A few layers over the rows of an image, as one sequence."""
        high, wide, depth = x.shape[1:]
        x = layers.Reshape((high * wide, depth), name=self.name("rows"))(x)
        for _ in range(self.rng.integers(1, 4)):
            x = self.row(x)
        return layers.Reshape((1, *x.shape[1:]), name=self.name("image"))(x)

    def row(self, x: Tensor) -> Tensor:
        length, depth = x.shape[1:]
        size = min(length, self.choose(1, 2, 3))
        activation, padding = self.activation(), self.choose("same", "valid")
        return self.choose(
            lambda x: self.norm(
                layers.Conv1D(
                    6,
                    size,
                    self.choose(1, 2),
                    padding,
                    activation=activation,
                    name=self.name("conv1d"),
                )(x)
            ),
            layers.Conv1D(
                4, size, padding="causal", dilation_rate=self.choose(1, 2), name=self.name("causal")
            ),
            lambda x: self.relu(
                layers.DepthwiseConv1D(size, padding=padding, name=self.name("dw1d"))(x)
            ),
            layers.SeparableConv1D(
                5, size, padding="same", activation=activation, name=self.name("sep1d")
            ),
            layers.MaxPooling1D(size, 1, padding, name=self.name("pool1d")),
            layers.AveragePooling1D(size, self.choose(1, 2), "same", name=self.name("mean1d")),
            layers.ZeroPadding1D((0, 2), name=self.name("pad1d")),
            layers.Cropping1D((0, 1 if length > 1 else 0), name=self.name("crop1d")),
            layers.GlobalMaxPooling1D(keepdims=True, name=self.name("gmp1d")),
            layers.GlobalAveragePooling1D(keepdims=True, name=self.name("gap1d")),
            layers.Conv1DTranspose(3, 2, self.choose(1, 2), padding, name=self.name("up1d"))
            if length * depth < 2000
            else layers.MaxPooling1D(min(length, 4), name=self.name("pool1d")),
            lambda x: layers.Add(name=self.name("add1d"))(
                [x, layers.Conv1D(depth, 1, activation=activation, name=self.name("conv1d"))(x)]
            ),
        )(x)

    def pad(self, x: Tensor) -> Tensor:
        return ops.pad(x, ((0, 0), (0, 1), (1, 0), (0, self.choose(0, 1))))

    def beside(self, x: Tensor) -> Tensor:
        """A branch joined along any axis."""
        return ops.concatenate([x, self.same_shape(x)], axis=int(self.rng.integers(1, 4)))

    def reshapes(self, x: Tensor) -> Tensor:
        high, wide, depth = x.shape[1:]
        return self.choose(
            lambda x: ops.reshape(x, (-1, wide, high, depth)),
            lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
            lambda x: ops.max(x, axis=(1, 2), keepdims=True),
            lambda x: ops.mean(x, axis=(1, 2), keepdims=True),
            lambda x: ops.max_pool(x, min(2, high, wide), 1, "same"),
            lambda x: ops.average_pool(x, min(2, high, wide), 1, "same"),
            layers.GlobalMaxPooling2D(keepdims=True, name=self.name("gmp")),
        )(x)


def moving_net(seed: int) -> keras.Model:
    """A random net of these layers, quantized and calibrated."""
    return nets.random_net(seed, MovingGrammar)
