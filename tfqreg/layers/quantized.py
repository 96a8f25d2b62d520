"""The weight wrapper: any Keras layer with a kernel computes with quantized, pruned weights."""

import copy
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfqreg.errors import ModelError, ModelTypeError, diverged
from tfqreg.layers.kernel import QuantizedKernel
from tfqreg.layers.plain import plain_kernels
from tfqreg.quantizers import Quantizer, Uniform
from tfqreg.quantizers.base import Params, check_float32
from tfqreg.regularizers import Penalty, Pruning
from tfqreg.regularizers.penalty import copy_of

KERNEL_NAMES = ("kernel", "depthwise_kernel", "pointwise_kernel")  # as Keras calls them
ONE_KERNEL = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)


def kernel_names(layer: keras.layers.Layer) -> tuple[str, ...]:
    """Returns the names of the layer's kernels; the layer need not be built."""
    if isinstance(layer, keras.layers.SeparableConv1D | keras.layers.SeparableConv2D):
        return ("depthwise_kernel", "pointwise_kernel")
    if isinstance(layer, ONE_KERNEL):
        return ("kernel",)
    return tuple(
        name for name in KERNEL_NAMES if isinstance(getattr(layer, name, None), keras.Variable)
    )


def output_axes(layer: keras.layers.Layer, name: str) -> tuple[int, ...]:
    """Returns the axes of a kernel that run over output channels."""
    rank = len(getattr(layer, name).shape)
    depthwise = keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D
    transposed = (
        keras.layers.Conv1DTranspose | keras.layers.Conv2DTranspose | keras.layers.Conv3DTranspose
    )
    if name == "depthwise_kernel" or isinstance(layer, depthwise):
        return (rank - 2, rank - 1)
    if isinstance(layer, transposed):
        return (rank - 2,)
    if isinstance(layer, keras.layers.EinsumDense):
        operands, output = layer.equation.split("->")
        return tuple(i for i, axis in enumerate(operands.split(",")[1]) if axis in output)
    return (rank - 1,)


@keras.saving.register_keras_serializable(package="tfqreg")
class Quantized(keras.layers.Wrapper):
    """Wraps a layer with a kernel so that it computes with quantized weights.

    The inner layer keeps its float kernel w, which the optimizer trains; its call sees `q(w)` in
    the kernel's place. The layer is used as it is, none of its code is repeated, and inputs and
    outputs have its shapes. `SeparableConv2D` has two kernels, both quantized.

    Args:
        layer: a layer with a kernel: Dense, EinsumDense, a convolution, or one of your own that
            calls it `kernel`.
        weights: quantizer of the kernel; `Uniform(bits=8)` by default.
        regularizer: penalty towards the grid, such as `MSQE()`; none by default.
        prune: penalty towards zero and mask, such as `PartialL2(0.8)`; none by default. It acts in
            the stages that `tfqreg.callbacks_for(model)` steers.

    Raises:
        ModelTypeError: for an argument of another kind.
        ModelError: for a layer that has no kernel, is quantized already, or computes in mixed
            precision.

    Example:
        >>> import keras, numpy as np
        >>> layer = Quantized(keras.layers.Dense(2, use_bias=False), weights=Uniform(bits=2))
        >>> layer(np.ones((1, 3), "float32")).shape
        TensorShape([1, 2])
        >>> sorted(set(layer.encode()["kernel"][0].ravel().tolist()) - {-1, 0, 1})
        []
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        weights: Quantizer | None = None,
        regularizer: Penalty | None = None,
        prune: Pruning | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise ModelTypeError(
                "Quantized",
                "`layer` must be a Keras layer",
                "Wrap the layer, then call it: tfqreg.Quantized(conv)(x)",
                f"layer={layer!r}",
            )
        if isinstance(layer, Quantized):
            raise ModelError(layer.name, "the layer is quantized already", "Wrap it once")
        check_arguments(layer.name, weights, regularizer, prune)
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(layer, **kwargs)
        check_float32(self, self.name)
        check_float32(layer, self.name)
        self.quantizer = weights if weights is not None else Uniform()
        self.regularizer, self.prune = (
            copy_of(penalty) if penalty and penalty.scope == "layer" else penalty
            for penalty in (regularizer, prune)
        )
        self.kernels: dict[str, QuantizedKernel] = {}

    def build(self, input_shape: Any = None) -> None:
        """Builds the inner layer, then one `QuantizedKernel` for each of its kernels."""
        super().build(input_shape)
        names = kernel_names(self.layer)
        if not names:
            raise ModelError(
                self.name,
                f"{type(self.layer).__name__} has no kernel to quantize",
                "Wrap a Dense or convolution layer, or leave this one out",
                f"layer={self.layer}",
            )
        for name in names:
            variable = getattr(self.layer, name)
            quantized_kernel = QuantizedKernel(
                variable,
                output_axes(self.layer, name),
                copy.copy(self.quantizer),
                self.regularizer,
                self.prune,
                name=name,
                dtype=variable.dtype,
                trainable=variable.trainable,
            )
            self.kernels[name] = quantized_kernel
            variable.regularizer = _Sum(variable.regularizer, quantized_kernel)
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        """Calls the inner layer with each kernel replaced by its weights in use."""
        replaced = {
            id(weights): quantized_kernel for quantized_kernel, weights in self.kernel_pairs()
        }
        # All variables of the layer are mapped: an inner scope hides the values of the one around
        # it.
        mapping = [
            (
                v,
                replaced[id(v)].weights_in_use(v)
                if id(v) in replaced
                else ops.convert_to_tensor(v),
            )
            for v in self.layer.variables
        ]
        scoped = keras.StatelessScope(state_mapping=mapping, collect_losses=True)
        with scoped as scope, plain_kernels(self.layer):
            outputs = self.layer(inputs, **kwargs)
        # What the layer did to its state and losses stayed in the scope.
        for loss in scope.losses:
            self.add_loss(loss)
        for variable in self.layer.non_trainable_variables:
            if id(variable) not in replaced:
                variable.assign(scope.get_current_value(variable))
        return outputs

    def kernel_pairs(self) -> list[tuple[QuantizedKernel, keras.Variable]]:
        """Returns what is kept for each kernel, with the float kernel itself."""
        return [
            (quantized_kernel, getattr(self.layer, name))
            for name, quantized_kernel in self.kernels.items()
        ]

    def fit_quantizers(self) -> None:
        """Sets every quantizer's variables to suit the weights as they are."""
        for quantized_kernel, weights in self.kernel_pairs():
            quantized_kernel.fit_quantizer(weights)

    def encode(self) -> dict[str, tuple[np.ndarray, Params]]:
        """Returns, by kernel name, the int8 codes that ship and the parameters that decode them.

        Raises:
            ModelError: for a kernel with NaN or infinity, one whose weights all round to 0 or
                cannot be 0, or levels on no integer grid. One that is all zeros has codes of 0.
        """
        encoded = {}
        for quantized_kernel, weights in self.kernel_pairs():
            path = f"{self.name}/{quantized_kernel.name}"
            check_kernel(ops.convert_to_numpy(weights), path)
            if not quantized_kernel.quantizer.on_grid(quantized_kernel.state):
                raise ModelError(
                    path,
                    "its levels lie on no integer grid yet",
                    "Call tfqreg.project(model), or let training end with its callback",
                    f"{quantized_kernel.quantizer!r}",
                )
            for name, variable in quantized_kernel.state.items():
                values = ops.convert_to_numpy(variable)
                if not np.isfinite(values).all():
                    raise diverged(f"{path}/{name}", "NaN or infinity")
            codes, params = quantized_kernel.encode(weights)
            alive = bool(ops.any(quantized_kernel.surviving(weights)))
            if alive and not codes.any():
                raise ModelError(
                    path,
                    "every weight rounds to 0, the layer computes nothing",
                    "Add bits, or train with a smaller scale",
                    f"bits={params['bits']}",
                )
            if codes.any() and not alive:
                raise no_zero(path, quantized_kernel.quantizer)
            encoded[quantized_kernel.name] = codes, params
        return encoded

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the inner layer's output, symbolically.

        A layer of one's own need not have `compute_output_shape`.
        """
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the inner layer's output shape."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "weights": serialize(self.quantizer),
            "regularizer": _serialize_shared(self.regularizer),
            "prune": _serialize_shared(self.prune),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Quantized":
        """Returns a wrapper of the same configuration."""
        config = {
            key: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if key in ("layer", "weights", "regularizer", "prune")
            else value
            for key, value in config.items()
        }
        return cls(**config)


def check_arguments(owner: str, weights: Any, regularizer: Any, prune: Any) -> None:
    """Raises ModelTypeError for what stands in place of a quantizer, a penalty or a pruning.

    Example:
        >>> check_arguments("conv", 4, None, None)
        Traceback (most recent call last):
            ...
        tfqreg.errors.ModelTypeError: conv: `weights` must be a quantizer, such as \
tfqreg.Uniform(4). Received: weights=4
    """
    for name, value, cls, words in (
        ("weights", weights, Quantizer, "a quantizer, such as tfqreg.Uniform(4)"),
        ("regularizer", regularizer, Penalty, "a penalty, such as tfqreg.MSQE()"),
        ("prune", prune, Pruning, "a pruning, such as tfqreg.PartialL2(0.5)"),
    ):
        if value is not None and not isinstance(value, cls):
            raise ModelTypeError(owner, f"`{name}` must be {words}", received=f"{name}={value!r}")


def check_kernel(w: np.ndarray, name: str) -> None:
    """Raises ModelError if a kernel holds NaN or infinity."""
    broken = w.size - int(np.isfinite(w).sum())
    if broken:
        raise ModelError(
            name,
            "the kernel holds NaN or infinity",
            "Load sound weights, or lower the learning rate",
            f"{broken} of {w.size} values not finite",
        )


def no_zero(name: str, quantizer: Quantizer) -> ModelError:
    """Returns the error for a kernel of zeros that a quantizer would make something else of."""
    return ModelError(
        name,
        f"the kernel is all zeros, and {type(quantizer).__name__} has no level at 0",
        "Use Uniform with 2 bits or more, or load trained weights first",
        repr(quantizer),
    )


def _serialize_shared(penalty: Penalty | None) -> dict[str, Any] | None:
    # Keras' own mark of a shared object is lost when configurations nest; written here,
    # `load_model` restores one coefficient for all the wrappers that share it.
    if penalty is None:
        return None
    return {**keras.saving.serialize_keras_object(penalty), "shared_object_id": id(penalty)}


class _Sum(keras.regularizers.Regularizer):
    """A kernel's penalty on top of its variable's own; before 3.13 Keras took no plain function.

    Keras evaluates a variable's regularizer once per step, however often its layer is called.
    """

    def __init__(self, own: Callable[[Any], Any] | None, quantized_kernel: QuantizedKernel) -> None:
        self.own, self.quantized_kernel = own, quantized_kernel

    def __call__(self, w: Any) -> Any:
        penalty = self.quantized_kernel.penalty(w)
        return penalty if self.own is None else self.own(w) + penalty
