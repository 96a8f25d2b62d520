"""ALQ, the optimizer of multi-bit weights; everything else it trains by Adam.

`ALQ.update_step` is the way in: it builds a quadratic model of the loss around a kernel's weights,
takes the step that the mode says (`_basis_step`, `_coordinate_step` or `_moments_alone`) for all
groups of the kernel at once, and stores what comes out. The mathematics of the basis step is in
`quadratic.py`.
"""

import enum
from typing import Any, NamedTuple

import keras
from keras import ops

from tfqreg.errors import ModelError
from tfqreg.optimizers.quadratic import basis_step, chunks
from tfqreg.quantizers.multibit import ALQ_AT_WORK, combine

LARGEST_CHUNK = 2**24  # values of a basis worked on at once: bounds the memory, 64 MiB in float32


class Mode(enum.IntEnum):
    """What a step does to multi-bit weights."""

    BASIS = 0
    COORDINATE = 1
    PRUNE = 2
    STE = 3


class _Moments(NamedTuple):
    """AMSGrad's running means of a gradient and of its square, and the largest of the latter."""

    momentum: Any
    velocity: Any
    velocity_hat: Any


class _Groups(NamedTuple):
    """What is trained of one kernel, by groups; the channels are the first axis."""

    weights: Any
    basis: Any
    alpha: Any
    moments: _Moments  # of the coordinates alpha


class _Step(NamedTuple):
    """What a step leaves of one kernel."""

    groups: _Groups
    unit: Any  # of the integer grid, 0 for weights on none; in the shape of the state's `unit`
    refused: Any  # number of groups whose solve was refused


class _Model(NamedTuple):
    """The quadratic model of the loss around the weights in use, and what it is made of."""

    gradient: Any
    slope: Any
    curvature: Any
    moments: _Moments  # of the weights


def _channels(values: Any, part: slice) -> Any:
    """Returns some channels of every array in a structure."""
    return keras.tree.map_structure(lambda value: value[part], values)


@keras.saving.register_keras_serializable(package="tfqreg")
class ALQ(keras.optimizers.Adam):
    r"""Trains `MultiBit` weights on a quadratic model of the loss, everything else by Adam.

        slope = rate m / (1 - beta_1^t),    H = (sqrt(max v) + epsilon) / sqrt(1 - beta_2^t)
        w* = w - slope / H

    | mode | a step |
    |---|---|
    | basis | weights take the signs of the level nearest to w*, then coordinates are solved for |
    | coordinate | AMSGrad on the coordinates, whose gradient is B g |
    | prune | moments alone; `ALQRounds` deletes bases between the steps |
    | ste | as basis, around float weights that follow w* |

    `mode` is a variable that `ALQRounds` sets; without that callback every step is a basis step.
    `refused_solves` counts the groups whose coordinates were left as they were because their system
    was singular or nearly so.

    Args:
        learning_rate: 1e-3 by default; `ALQRounds` needs a number here, no schedule.
        beta_1: decay of the mean gradient m; 0.9 by default.
        beta_2: decay of the mean squared gradient v; 0.999 by default.
        epsilon: least curvature; 1e-8 by default.
        loss_aware: False fits bases and coordinates to float weights without the loss, H = 1, as
            LQ-Nets does: for comparisons. True by default.
        clipnorm: as in `keras.optimizers.Adam`, as are the next three; None by default.
        clipvalue: None by default.
        global_clipnorm: None by default.
        name: "alq" by default.

    Raises:
        ModelError: for a model without multi-bit weights, when it is built.
        NotImplementedError: under JAX, when it is constructed: a training step of JAX gives an
            optimizer no way to the state of a layer.

    Example:
        >>> import keras, numpy as np, tfqreg as tq
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> model = tq.quantize(model, [tq.Rule("head", tq.MultiBit(bases=2))])
        >>> model.compile(ALQ(1e-2), "mse")
        >>> history = model.fit(np.ones((8, 4), "float32"), np.ones((8, 2), "float32"), verbose=0)
        >>> int(model.optimizer.refused_solves)
        0

    Reference: Qu et al. 2020, arXiv 1912.08883, sections 4.2 and 4.3; AMSGrad: Reddi et al. 2018.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        loss_aware: bool = True,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "alq",
    ) -> None:
        if keras.backend.backend() == "jax":
            raise NotImplementedError(
                "ALQ: it changes the state of layers, to which JAX gives an optimizer no way. "
                "Train on TensorFlow or torch (KERAS_BACKEND); to load a model that ALQ trained, "
                "call keras.saving.load_model(path, compile=False). Received: backend='jax'"
            )
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
        )
        self.loss_aware = loss_aware
        self.initial_rate = learning_rate

    def build(self, var_list: list[Any]) -> None:
        """Creates the moments; raises if there is nothing multi-bit to train."""
        if self.built:
            return
        kernels = [getattr(variable, "multibit", None) for variable in var_list]
        if not any(kernels):
            raise ModelError(
                "ALQ",
                "no layer has multi-bit weights",
                "Use Adam, or quantize with Rule(..., weights=MultiBit())",
                f"the variables {', '.join(variable.path for variable in var_list)}",
            )
        super().build(var_list)
        self.kernels = kernels
        if self.loss_aware:  # steps start from the weights in use, from float ones otherwise
            for variable, quantized_kernel in zip(var_list, kernels, strict=True):
                if quantized_kernel is not None:
                    variable.assign(quantized_kernel.quantized(variable))
        self.mode = self.add_variable((), dtype="int32", name="mode")
        self.refused_solves = self.add_variable((), dtype="int32", name="refused_solves")
        # Where pruning is to end, and where it should stand by now: kept for `ALQRounds`.
        self.bits_goal, self.bits_planned = (
            self.add_variable((), name=name) for name in ("bits_goal", "bits_planned")
        )
        self._hats: list[Any] = [
            self.add_variable_from_reference(variable, "velocity_hat") if quantized_kernel else None
            for variable, quantized_kernel in zip(var_list, kernels, strict=True)
        ]
        # Adam's own moments serve the weights' domain, these the coordinates'.
        self._coordinate_moments = [
            [
                self.add_variable_from_reference(quantized_kernel.state["alpha"], name)
                for name in ("momentum", "velocity", "velocity_hat")
            ]
            if quantized_kernel
            else []
            for quantized_kernel in kernels
        ]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Takes a step; multi-bit weights let no other optimizer do that."""
        token = ALQ_AT_WORK.set(True)
        try:
            super().apply(grads, trainable_variables)
        finally:
            ALQ_AT_WORK.reset(token)

    def coordinate_model(self, variable: keras.Variable) -> tuple[Any, Any]:
        """Returns slope and curvature of the loss in a kernel's coordinates, as of the last step.

        Args:
            variable: the float weights of a multi-bit kernel.

        Returns:
            Two arrays (channels, parts, bases).
        """
        index = self._get_variable_index(variable)
        if not self.loss_aware:
            alpha, basis = (self.kernels[index].state[name] for name in ("alpha", "basis"))
            return ops.zeros(alpha.shape), ops.full(alpha.shape, float(basis.shape[-1]))
        moments = _Moments(*map(ops.convert_to_tensor, self._coordinate_moments[index]))
        return self._slope_and_curvature(moments, self.learning_rate, self.iterations)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes a step of one variable."""
        index = self._get_variable_index(variable)
        quantized_kernel = self.kernels[index]
        if quantized_kernel is None:
            super().update_step(gradient, variable, learning_rate)
            return
        state = quantized_kernel.state
        rate = ops.cast(learning_rate, "float32")
        cut = quantized_kernel.quantizer.groups(tuple(variable.shape), quantized_kernel.axes)
        model = self._quadratic_model(index, cut.split(gradient), rate)
        now = _Groups(
            cut.split(ops.convert_to_tensor(variable)),
            ops.convert_to_tensor(state["basis"]),
            ops.convert_to_tensor(state["alpha"]),
            _Moments(*map(ops.convert_to_tensor, self._coordinate_moments[index])),
        )
        unit, valid = (ops.convert_to_tensor(state[name]) for name in ("unit", "valid"))
        mode = ops.convert_to_tensor(self.mode)
        around_float = (mode == Mode.STE) | (not self.loss_aware)
        branches = [
            lambda: self._basis_step(now, unit, model, valid, around_float),
            lambda: self._coordinate_step(now, unit, model, valid, rate),
            lambda: self._moments_alone(now, unit, model),
        ]
        step = ops.switch(ops.where(mode == Mode.STE, int(Mode.BASIS), mode), branches)
        self.assign(variable, cut.join(step.groups.weights))
        self.assign(state["basis"], step.groups.basis)
        self.assign(state["alpha"], step.groups.alpha)
        self.assign(state["unit"], step.unit)
        moments = zip(self._coordinate_moments[index], step.groups.moments, strict=True)
        for moment, value in moments:
            self.assign(moment, value)
        self.assign_add(self.refused_solves, step.refused)

    def _quadratic_model(self, index: int, gradient: Any, rate: Any) -> _Model:
        variables = self._momentums[index], self._velocities[index], self._hats[index]
        # Adam made them in the kernel's shape; what is in them here is in the order of the groups.
        before = _Moments(*(ops.reshape(variable, gradient.shape) for variable in variables))
        moments = self._amsgrad(gradient, before)
        for variable, value in zip(variables, moments, strict=True):
            self.assign(variable, ops.reshape(value, variable.shape))
        slope, curvature = self._slope_and_curvature(moments, rate, self.iterations + 1)
        return _Model(gradient, slope, curvature, moments)

    def _amsgrad(self, gradient: Any, moments: _Moments) -> _Moments:
        momentum, velocity, velocity_hat = moments
        momentum = momentum + (gradient - momentum) * (1.0 - self.beta_1)
        velocity = velocity + (ops.square(gradient) - velocity) * (1.0 - self.beta_2)
        return _Moments(momentum, velocity, ops.maximum(velocity_hat, velocity))

    def _slope_and_curvature(self, moments: _Moments, rate: Any, step: Any) -> tuple[Any, Any]:
        step = ops.cast(step, "float32")
        slope = rate * moments.momentum / (1.0 - ops.power(self.beta_1, step))
        return slope, (ops.sqrt(moments.velocity_hat) + self.epsilon) / ops.sqrt(
            1.0 - ops.power(self.beta_2, step)
        )

    def _basis_step(
        self, now: _Groups, unit: Any, model: _Model, valid: Any, around_float: Any
    ) -> _Step:
        """The basis step, around the weights in use or around float weights that follow w*."""
        results = [
            self._basis_step_of(
                _channels(now, part), _channels(model, part), valid[part], around_float
            )
            for part in chunks(tuple(now.weights.shape), now.alpha.shape[-1], LARGEST_CHUNK)
        ]
        parts, refused = zip(*results, strict=True)
        groups = parts[0]
        if len(parts) > 1:
            groups = keras.tree.map_structure(lambda *values: ops.concatenate(values, 0), *parts)
        # Real coordinates leave the integer grid.
        return _Step(groups, 0.0 * unit, sum(refused))

    def _basis_step_of(
        self, now: _Groups, model: _Model, valid: Any, around_float: Any
    ) -> tuple[_Groups, Any]:
        """Returns some channels after the basis step, and how many solves were refused."""
        target = now.weights - model.slope / model.curvature
        curvature = model.curvature if self.loss_aware else ops.ones_like(model.curvature)
        basis, alpha, refused = basis_step(target, curvature, now.alpha, valid)
        momentum = gradient_in_coordinates(basis, model.moments.momentum)
        # All entries of a base are 1 or -1, so every base of a group has the same variance.
        velocity, velocity_hat = (
            ops.where(valid, ops.sum(value, axis=-1, keepdims=True), 0.0)
            for value in (model.moments.velocity, model.moments.velocity_hat)
        )
        weights = ops.where(around_float, target, combine(alpha, basis))
        moments = _Moments(momentum, velocity, velocity_hat)
        return _Groups(weights, ops.cast(basis, "int8"), alpha, moments), refused

    def _coordinate_step(
        self, now: _Groups, unit: Any, model: _Model, valid: Any, rate: Any
    ) -> _Step:
        """A step of AMSGrad on the coordinates.

        On an integer grid the unit follows them by least squares, `sum alpha a / sum a^2` with the
        whole numbers a that they round to.
        """
        basis = ops.cast(now.basis, "float32")
        moments = self._coordinate_moments_after(now, model, basis)
        slope, curvature = self._slope_and_curvature(moments, rate, self.iterations + 1)
        alpha = ops.where(valid, now.alpha - slope / curvature, 0.0)
        step = ops.reshape(unit, (-1, 1, 1))
        whole = ops.round(alpha / ops.where(step > 0, step, 1.0))
        square = ops.sum(ops.square(whole), axis=(1, 2), keepdims=True)
        fitted = ops.sum(alpha * whole, axis=(1, 2), keepdims=True) / ops.maximum(square, 1.0)
        step = ops.where((step > 0) & (square > 0), fitted, step)
        groups = _Groups(combine(alpha, basis), now.basis, alpha, moments)
        return _Step(groups, ops.reshape(step, unit.shape), ops.zeros((), "int32"))

    def _moments_alone(self, now: _Groups, unit: Any, model: _Model) -> _Step:
        """No step: the moments follow the gradient, for what `ALQRounds` prunes by."""
        basis = ops.cast(now.basis, "float32")
        weights = combine(now.alpha, basis) if self.loss_aware else now.weights
        moments = self._coordinate_moments_after(now, model, basis)
        groups = now._replace(weights=weights, moments=moments)
        return _Step(groups, unit, ops.zeros((), "int32"))

    def _coordinate_moments_after(self, now: _Groups, model: _Model, basis: Any) -> _Moments:
        return self._amsgrad(gradient_in_coordinates(basis, model.gradient), now.moments)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, with the rate that `ALQRounds` returns to."""
        names = ("name", "beta_1", "beta_2", "epsilon", "clipnorm", "clipvalue", "global_clipnorm")
        config = super().get_config()
        rate = (
            self.initial_rate
            if isinstance(self.initial_rate, int | float)
            else config["learning_rate"]
        )
        return {name: config[name] for name in names} | {
            "learning_rate": rate,
            "loss_aware": self.loss_aware,
        }


def gradient_in_coordinates(basis: Any, gradient: Any) -> Any:
    """Returns B g: (..., bases, size) and (..., size) give (..., bases)."""
    return ops.squeeze(ops.matmul(basis, ops.expand_dims(gradient, -1)), -1)
