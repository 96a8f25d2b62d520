"""ALQ, the optimizer of multi-bit weights; everything else it trains by Adam."""

import enum
from typing import Any, NamedTuple

import keras
from keras import ops

from tfqreg.optimizers.quadratic import basis_step, chunks
from tfqreg.quantizers.multibit import ALQ_AT_WORK, combine

LARGEST_CHUNK = 2**24  # values of a basis worked on at once, 64 MiB in float32


class Mode(enum.IntEnum):
    """What a step does to multi-bit weights."""

    BASIS = 0
    COORDINATE = 1
    PRUNE = 2
    STE = 3


class _Kernel(NamedTuple):
    """What a step changes of one kernel; weights and bases are in groups."""

    weights: Any
    basis: Any
    alpha: Any
    unit: Any
    momentum: Any
    velocity: Any
    velocity_hat: Any
    refused: Any


class _Model(NamedTuple):
    """The quadratic model of the loss around the weights in use, in groups, and what it is made of."""

    gradient: Any
    slope: Any
    curvature: Any
    momentum: Any
    velocity: Any
    velocity_hat: Any


@keras.saving.register_keras_serializable(package="tfqreg")
class ALQ(keras.optimizers.Adam):
    r"""Trains the bases and coordinates of `MultiBit` weights on a quadratic model of the loss, the
    rest by Adam.

        slope = rate m / (1 - beta_1^t),    H = (sqrt(max v) + epsilon) / sqrt(1 - beta_2^t),    w* = w - slope / H

    | mode | a step |
    |---|---|
    | basis | each weight takes the signs of the level nearest to w*; then all coordinates of a group are solved for |
    | coordinate | AMSGrad on the coordinates, whose gradient is B g |
    | prune | moments alone; `ALQRounds` deletes bases between the steps |
    | ste | as basis, around float weights that follow w* |

    `mode` is a variable that `ALQRounds` sets; without that callback every step is a basis step.
    `refused_solves` counts the groups whose coordinates were left as they were since their system
    was singular or nearly so.

    Args:
        learning_rate: 1e-3 by default; `ALQRounds` needs a number here, no schedule.
        beta_1, beta_2, epsilon: of the moments; 0.9, 0.999 and 1e-8 by default.
        loss_aware: False fits bases and coordinates to float weights without the loss, H = 1, as
            LQ-Nets does: for comparisons. True by default.
        clipnorm, clipvalue, global_clipnorm, name: as in `keras.optimizers.Adam`.

    Raises:
        ValueError: for a model without multi-bit weights, when it is built.
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
        """Creates the moments; raises where there is nothing multi-bit to train."""
        if self.built:
            return
        kernels = [getattr(variable, "multibit", None) for variable in var_list]
        if not any(kernels):
            raise ValueError(
                "ALQ: no layer has multi-bit weights. Use Adam, or quantize with Rule(..., "
                "weights=MultiBit()). "
                f"Received the variables: {', '.join(variable.path for variable in var_list)}"
            )
        super().build(var_list)
        self.kernels = kernels
        if self.loss_aware:  # steps start from the weights in use, from float ones otherwise
            for variable, kernel in zip(var_list, kernels, strict=True):
                if kernel is not None:
                    variable.assign(kernel.quantized(variable))
        self.mode = self.add_variable((), dtype="int32", name="mode")
        self.refused_solves = self.add_variable((), dtype="int32", name="refused_solves")
        # Where pruning is to end, and where it should stand by now: kept for `ALQRounds`.
        self.bits_goal, self.bits_planned = (
            self.add_variable((), name=name) for name in ("bits_goal", "bits_planned")
        )
        self._hats: list[Any] = [
            self.add_variable_from_reference(variable, "velocity_hat") if kernel else None
            for variable, kernel in zip(var_list, kernels, strict=True)
        ]
        # Adam's own moments serve the weights' domain, these the coordinates'.
        self._coordinate_moments = [
            [
                self.add_variable_from_reference(kernel.state["alpha"], name)
                for name in ("momentum", "velocity", "velocity_hat")
            ]
            if kernel
            else []
            for kernel in kernels
        ]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Takes a step; multi-bit weights let no other optimizer do that."""
        token = ALQ_AT_WORK.set(True)
        try:
            super().apply(grads, trainable_variables)
        finally:
            ALQ_AT_WORK.reset(token)

    def coordinate_model(self, variable: keras.Variable) -> tuple[Any, Any]:
        """Returns slope and curvature of the loss in the coordinates of a multi-bit kernel, as of
        the last step.
        """
        index = self._get_variable_index(variable)
        if not self.loss_aware:
            alpha, basis = (self.kernels[index].state[name] for name in ("alpha", "basis"))
            return ops.zeros(alpha.shape), ops.full(alpha.shape, float(basis.shape[-1]))
        momentum, _, velocity_hat = self._coordinate_moments[index]
        return self._slope_and_curvature(
            ops.convert_to_tensor(momentum),
            ops.convert_to_tensor(velocity_hat),
            self.learning_rate,
            self.iterations,
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes a step of one variable."""
        index = self._get_variable_index(variable)
        kernel = self.kernels[index]
        if kernel is None:
            super().update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(learning_rate, "float32")
        groups = kernel.quantizer.groups(tuple(variable.shape), kernel.axes)
        model = self._quadratic_model(index, groups.split(gradient), rate)
        now = self._state(index, kernel, groups.split(ops.convert_to_tensor(variable)))
        valid = ops.convert_to_tensor(kernel.state["valid"])
        mode = ops.convert_to_tensor(self.mode)
        around_float = (mode == Mode.STE) | (not self.loss_aware)
        branches = [
            lambda: self._basis(now, model, valid, around_float),
            lambda: self._coordinate(now, model, valid, rate),
            lambda: self._moments_alone(now, model),
        ]
        new = _Kernel(*ops.switch(ops.where(mode == Mode.STE, int(Mode.BASIS), mode), branches))
        self.assign(variable, groups.join(new.weights))
        for name in ("basis", "alpha", "unit"):
            self.assign(kernel.state[name], getattr(new, name))
        for moment, value in zip(self._coordinate_moments[index], new[4:7], strict=True):
            self.assign(moment, value)
        self.assign_add(self.refused_solves, new.refused)

    def _quadratic_model(self, index: int, gradient: Any, rate: Any) -> _Model:
        moments = self._momentums[index], self._velocities[index], self._hats[index]
        # Adam made them in the kernel's shape; what is in them here is in the order of the groups.
        momentum, velocity, velocity_hat = self._amsgrad(
            gradient, *(ops.reshape(m, gradient.shape) for m in moments)
        )
        for moment, value in zip(moments, (momentum, velocity, velocity_hat), strict=True):
            self.assign(moment, ops.reshape(value, moment.shape))
        slope, curvature = self._slope_and_curvature(
            momentum, velocity_hat, rate, self.iterations + 1
        )
        return _Model(gradient, slope, curvature, momentum, velocity, velocity_hat)

    def _amsgrad(
        self, gradient: Any, momentum: Any, velocity: Any, velocity_hat: Any
    ) -> tuple[Any, Any, Any]:
        momentum = momentum + (gradient - momentum) * (1.0 - self.beta_1)
        velocity = velocity + (ops.square(gradient) - velocity) * (1.0 - self.beta_2)
        return momentum, velocity, ops.maximum(velocity_hat, velocity)

    def _slope_and_curvature(
        self, momentum: Any, velocity_hat: Any, rate: Any, step: Any
    ) -> tuple[Any, Any]:
        step = ops.cast(step, "float32")
        slope = rate * momentum / (1.0 - ops.power(self.beta_1, step))
        return slope, (ops.sqrt(velocity_hat) + self.epsilon) / ops.sqrt(
            1.0 - ops.power(self.beta_2, step)
        )

    def _state(self, index: int, kernel: Any, weights: Any) -> _Kernel:
        basis, alpha, unit = (
            ops.convert_to_tensor(kernel.state[name]) for name in ("basis", "alpha", "unit")
        )
        momentum, velocity, velocity_hat = map(
            ops.convert_to_tensor, self._coordinate_moments[index]
        )
        return _Kernel(
            weights, basis, alpha, unit, momentum, velocity, velocity_hat, ops.zeros((), "int32")
        )

    def _basis(self, now: _Kernel, model: _Model, valid: Any, around_float: Any) -> _Kernel:
        """The basis step around the weights in use, or around float weights that follow the target."""
        parts = [
            self._basis_of_chunk(now, model, valid, around_float, part)
            for part in chunks(tuple(now.weights.shape), now.alpha.shape[-1], LARGEST_CHUNK)
        ]
        columns = [
            v[0] if len(v) == 1 else ops.concatenate(v, 0)
            for v in zip(*(p[:-1] for p in parts), strict=True)
        ]
        weights, basis, alpha, momentum, velocity, velocity_hat = columns
        refused = sum(part[-1] for part in parts)
        # Real coordinates leave the integer grid.
        return _Kernel(
            weights, basis, alpha, 0.0 * now.unit, momentum, velocity, velocity_hat, refused
        )

    def _basis_of_chunk(
        self, now: _Kernel, model: _Model, valid: Any, around_float: Any, part: slice
    ) -> tuple[Any, ...]:
        model, valid = _Model(*(value[part] for value in model)), valid[part]
        target = now.weights[part] - model.slope / model.curvature
        curvature = model.curvature if self.loss_aware else ops.ones_like(model.curvature)
        basis, alpha, refused = basis_step(target, curvature, now.alpha[part], valid)
        momentum = combine_over_weights(basis, model.momentum)
        # All entries of a base are 1 or -1, so every base of a group has the same variance.
        velocity, velocity_hat = (
            ops.where(valid, ops.sum(value, axis=-1, keepdims=True), 0.0)
            for value in (model.velocity, model.velocity_hat)
        )
        weights = ops.where(around_float, target, combine(alpha, basis))
        return weights, ops.cast(basis, "int8"), alpha, momentum, velocity, velocity_hat, refused

    def _coordinate(self, now: _Kernel, model: _Model, valid: Any, rate: Any) -> _Kernel:
        """A step of AMSGrad on the coordinates; on an integer grid the unit follows them by least
        squares.
        """
        basis = ops.cast(now.basis, "float32")
        now = self._with_moments(now, model, basis)
        slope, curvature = self._slope_and_curvature(
            now.momentum, now.velocity_hat, rate, self.iterations + 1
        )
        alpha = ops.where(valid, now.alpha - slope / curvature, 0.0)
        unit = ops.reshape(now.unit, (-1, 1, 1))
        whole = ops.round(alpha / ops.where(unit > 0, unit, 1.0))
        square = ops.sum(ops.square(whole), axis=(1, 2), keepdims=True)
        fitted = ops.sum(alpha * whole, axis=(1, 2), keepdims=True) / ops.maximum(square, 1.0)
        unit = ops.where((unit > 0) & (square > 0), fitted, unit)
        return now._replace(
            weights=combine(alpha, basis), alpha=alpha, unit=ops.reshape(unit, now.unit.shape)
        )

    def _moments_alone(self, now: _Kernel, model: _Model) -> _Kernel:
        basis = ops.cast(now.basis, "float32")
        weights = combine(now.alpha, basis) if self.loss_aware else now.weights
        return self._with_moments(now, model, basis)._replace(weights=weights)

    def _with_moments(self, now: _Kernel, model: _Model, basis: Any) -> _Kernel:
        gradient = combine_over_weights(basis, model.gradient)
        moments = self._amsgrad(gradient, now.momentum, now.velocity, now.velocity_hat)
        return now._replace(momentum=moments[0], velocity=moments[1], velocity_hat=moments[2])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor; the rate is the one given there, which
        `ALQRounds` returns to.
        """
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


def combine_over_weights(basis: Any, gradient: Any) -> Any:
    """Returns B g, the gradient in the coordinates: (..., bases, size) and (..., size) give (...,
    bases).
    """
    return ops.squeeze(ops.matmul(basis, ops.expand_dims(gradient, -1)), -1)
