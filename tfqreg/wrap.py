"""`quantize` and `strip`: a float Keras model in, a model that trains quantized out, and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tfqreg.errors import ModelError, ModelTypeError
from tfqreg.graph.flat import FlatGraph, Node, clone, flatten, functional, rebuild, set_weights_of
from tfqreg.graph.patterns import canonical
from tfqreg.graph.placement import any_signed, fixed_scale, is_signed, place
from tfqreg.graph.roles import INFERENCE_IDENTITY, Role, activation_name, role
from tfqreg.layers import ActivationQuantizer, Quantized, QuantizedActivation
from tfqreg.layers.quantized import (
    check_arguments,
    check_kernel,
    kernel_names,
    no_zero,
    output_axes,
)
from tfqreg.layers.queries import activation_layers, quantized_layers
from tfqreg.layers.ranges import Range, check_range, layer_for
from tfqreg.quantizers import Quantizer, Uniform
from tfqreg.regularizers import Penalty, Pruning
from tfqreg.regularizers.penalty import shared_copy


@dataclass(frozen=True)
class Rule:
    """What happens to the layers whose path matches a pattern.

    Of several rules that match a layer the first decides.

    Args:
        pattern: regular expression, searched for in the path "nested_model/layer".
        weights: quantizer of the kernels; `Uniform(bits=8)` by default.
        regularizer: penalty towards the grid; none by default. Rules that hold the same object
            share its coefficient.
        prune: penalty towards zero and mask; none by default.
        activations: bits of the matched layers' outputs, or a range, if they differ from the rest
            of the model; None by default.
        skip: leaves the matched layers in float; False by default.
        optional: lets the rule match nothing, which is an error otherwise; False by default.

    Raises:
        ModelTypeError: for an argument of another kind.
        ModelError: for a pattern that is no regular expression.

    Example:
        >>> Rule(r"block_\\d+/conv", weights=Uniform(bits=4)).matches("block_3/conv")
        True
    """

    pattern: str
    weights: Quantizer | None = None
    regularizer: Penalty | None = None
    prune: Pruning | None = None
    activations: int | Range | None = None
    skip: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        check_arguments("Rule", self.weights, self.regularizer, self.prune)
        check_range("Rule", self.activations)
        try:
            re.compile(self.pattern)
        except (re.error, TypeError) as error:
            raise ModelError(
                "Rule",
                f"the pattern is no regular expression: {error}",
                received=repr(self.pattern),
            ) from None

    def matches(self, path: str) -> bool:
        """Returns whether the pattern occurs in a path."""
        return re.search(self.pattern, path) is not None


def quantize(
    model: keras.Model,
    rules: Sequence[Rule] | None = None,
    activations: int | Range | None = 8,
) -> keras.Model:
    """Returns a copy of a float model with its kernels wrapped and its activations quantized.

    Weights are copied. Activation quantizers stand at the inputs, after activations and after
    additions, never between a convolution and its BatchNorm; if TFLite needs one scale for several
    tensors, they share one (`tfqreg.graph.placement` has the rules). A separable convolution
    becomes its two convolutions, and an activation that no integer operator absorbs (softmax, say)
    becomes a layer of its own.

    Args:
        model: Functional or Sequential, nested models included.
        rules: what happens to which layer; every kernel to 8 bits, one scale per channel, by
            default. A layer with a kernel that no rule matches is an error.
        activations: bits of the activations, on learned grids, or a range: `LearnedRange`,
            `UnitRange` or `MultiBitRange`; 8 by default. None leaves them in float, which cannot be
            exported.

    Raises:
        ModelTypeError: for a subclassed model, or an argument of another kind.
        ModelError: for rules and layers that do not match, an unknown input shape, a kernel of
            NaN, one of zeros whose quantizer has no level at 0, or a model that is quantized
            already.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> quantized = quantize(model, [Rule("head", weights=Uniform(bits=4))])
        >>> quantized.get_layer("head").quantizer.bits
        4
    """
    functional(model)
    rules = _checked(rules)
    check_range("", activations)
    if quantized_layers(model) or activation_layers(model):
        raise ModelError(
            model.name,
            "the model is quantized already",
            "Quantize tfqreg.strip(model) instead",
        )
    float_model = canonical(model)
    graph = flatten(float_model)
    chosen = _match(graph, rules)
    _check_kernels(graph, chosen)
    _check_one_scale(graph, chosen)
    skipped = {node for node in graph.nodes if (rule := chosen.get(node.path)) and rule.skip}
    replaced: list[tuple[Any, Any]] = []
    penalties: dict[int, Any] = {}

    def replace(path: str, operation: Any) -> Any:
        new, rule = clone(operation), chosen.get(path)
        replaced.append((operation, new))
        if rule is None or rule.skip or role(operation) != Role.WEIGHTED_SUM:
            return new
        # The rules stay the caller's: each quantized model learns coefficients of its own.
        regularizer, prune = (
            shared_copy(penalty, penalties) for penalty in (rule.regularizer, rule.prune)
        )
        return Quantized(new, rule.weights, regularizer, prune)

    representatives, quantizers = _activation_quantizers(graph, skipped, chosen, activations)

    def after(old: Any, new: Any) -> Any:
        edge = representatives.get(id(old))
        return new if edge is None else quantizers[edge](new)

    quantized = rebuild(float_model, replace, after)
    set_weights_of(replaced)
    for layer in quantized_layers(quantized):
        layer.fit_quantizers()
    return quantized


def _checked(rules: Sequence[Rule] | None) -> list[Rule]:
    """Returns the rules, or the one that stands for none; raises ModelTypeError for others."""
    if rules is None:
        return [Rule(".*", weights=Uniform(8, per_channel=True))]
    if not isinstance(rules, list | tuple) or not all(isinstance(rule, Rule) for rule in rules):
        raise ModelTypeError(
            "",
            "`rules` must be a list of tfqreg.Rule",
            'Write rules=[tfqreg.Rule(".*", weights=tfqreg.Uniform(4))]',
            f"rules={rules!r}",
        )
    return list(rules)


def _match(graph: FlatGraph, rules: list[Rule]) -> dict[str, Rule]:
    """Returns the first matching rule of every path.

    Raises:
        ModelError: for a kernel without a rule, or a rule without a layer.
    """
    paths = list(dict.fromkeys(node.path for node in graph.nodes))
    chosen = {path: rule for path in paths for rule in reversed(rules) if rule.matches(path)}
    for rule in rules:
        if not rule.optional and not any(rule.matches(path) for path in paths):
            raise ModelError(
                "",
                f"Rule {rule.pattern!r} matches no layer",
                "Correct the pattern, or allow it with optional=True",
                f"a model with the layers: {', '.join(paths)}",
            )
    bare = {node.path for node in graph.nodes if role(node.operation) == Role.WEIGHTED_SUM} - set(
        chosen
    )
    if bare:
        raise ModelError(
            "",
            f"No rule matches {', '.join(sorted(bare))}",
            "Add a rule for them, Rule('.*') for all the rest, or skip=True to leave them in float",
            f"rules={[rule.pattern for rule in rules]}",
        )
    return chosen


def _check_kernels(graph: FlatGraph, chosen: dict[str, Rule]) -> None:
    for node in graph.nodes:
        if role(node.operation) == Role.WEIGHTED_SUM and not chosen[node.path].skip:
            for name in kernel_names(node.operation):
                w, path = getattr(node.operation, name), f"{node.path}/{name}"
                check_kernel(ops.convert_to_numpy(w), path)
                if not ops.any(ops.convert_to_tensor(w)):
                    axes = output_axes(node.operation, name)
                    _check_zeros(w, axes, chosen[node.path].weights or Uniform(), path)


def _check_one_scale(graph: FlatGraph, chosen: dict[str, Rule]) -> None:
    """Raises ModelError where a BatchNormalization makes many scales of one that was asked for."""
    for node in graph.nodes:
        rule = chosen.get(node.path)
        if rule is None or rule.skip or not getattr(rule.weights, "one_scale", False):
            continue
        if role(node.operation) != Role.WEIGHTED_SUM:
            continue
        norm = _folded_norm(node)
        if norm is not None and activation_name(node.operation) == "linear":
            raise ModelError(
                node.path,
                f"{norm.path} folds into its kernel, which gives every channel a scale of its own",
                "Leave out per_channel=False, or fold the BatchNormalization into the float kernel",
                repr(rule.weights),
            )


def _folded_norm(node: Node) -> Node | None:
    """Returns the BatchNormalization that alone reads a node's output, if one does."""
    edge = node.outputs[0]
    if len(edge.consumers) != 1 or edge.is_output:
        return None
    (after,) = edge.consumers
    if type(after.operation).__name__ in INFERENCE_IDENTITY:
        return _folded_norm(after)
    return after if isinstance(after.operation, keras.layers.BatchNormalization) else None


def _check_zeros(w: Any, axes: tuple[int, ...], quantizer: Quantizer, path: str) -> None:
    w = ops.convert_to_tensor(w)
    if ops.any(quantizer(w, quantizer.fit_state(w, axes))):
        raise no_zero(path, quantizer)


def _activation_quantizers(
    graph: FlatGraph, skipped: set[Node], chosen: dict[str, Rule], default: int | Range | None
) -> tuple[dict[int, Any], dict[Any, ActivationQuantizer]]:
    if default is None:
        return {}, {}
    representatives, members = place(graph, skipped)

    def wanted(node: Node | None) -> set[int | Range]:
        # The output of a convolution that BatchNorm and ReLU absorb is the ReLU's.
        if node is None:
            return set()
        rule = chosen.get(node.path)
        absorbed = [e.producer for e in node.inputs if id(e.keras_tensor) not in representatives]
        return set().union(
            {rule.activations} if rule and rule.activations else (), *map(wanted, absorbed)
        )

    quantizers: dict[Any, ActivationQuantizer] = {}
    taken: dict[str, int] = {}
    for edge, edges in members.items():
        producers = [e.producer for e in edges]
        name = producers[0].operation.name if producers[0] else edges[0].keras_tensor.name
        calls = taken[name] = taken.get(name, 0) + 1
        signed = any_signed(map(is_signed, edges))
        scale = fixed_scale(edges)
        full_name = f"{name}_quantizer" if calls == 1 else f"{name}_quantizer_{calls - 1}"
        if scale is None:
            quantizers[edge] = layer_for(
                set().union(*map(wanted, producers)) or {default}, signed, full_name
            )
        else:  # an operator dictates the grid
            quantizers[edge] = QuantizedActivation(8, signed, fixed_scale=scale, name=full_name)
    return representatives, quantizers


def strip(model: keras.Model) -> keras.Model:
    """Returns the plain float model, with the quantized weights and without quantizers.

    Args:
        model: what `quantize` returned, trained or not, or any Functional or Sequential model with
            wrappers.

    Raises:
        ModelTypeError: for a subclassed model.
        ModelError: for weights that have no codes, as `Quantized.encode`.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> plain = strip(quantize(model, [Rule("head", weights=Uniform(bits=2))]))
        >>> type(plain.get_layer("head")).__name__, len(set(plain.get_weights()[0].ravel())) <= 3
        ('Dense', True)
    """
    pairs: list[tuple[Any, Any]] = []
    wrappers: list[tuple[Quantized, Any]] = []

    def replace(path: str, operation: Any) -> Any:
        if isinstance(operation, ActivationQuantizer):
            return lambda x, **_: x
        if isinstance(operation, Quantized):
            new = clone(operation.layer)
            wrappers.append((operation, new))
            return new
        new = clone(operation)
        pairs.append((operation, new))
        return new

    plain = rebuild(model, replace)
    set_weights_of(pairs + [(wrapper.layer, new) for wrapper, new in wrappers])
    for wrapper, new in wrappers:
        for name, (codes, params) in wrapper.encode().items():
            getattr(new, name).assign(wrapper.quantizer.decode(codes, params))
    return plain
