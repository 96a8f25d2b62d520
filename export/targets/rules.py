"""What a target accepts: rules kept as data in `targets/*.toml`, and their findings on a `.tflite`.

A rule bounds one measure of the operators it names: `max`, `one_of` or, of a set, `within`.
`unless` lists measures that lift it. Every file cites its evidence.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfqreg.errors import ModelError

from ..finding import Finding
from ..flatbuffer.read import Operator, dtype, read_operators, reading
from ..kernels.windows import stride_remainder

_FOLDER = Path(__file__).parent
_KEYS = {
    "description",
    "evidence",
    "severity",
    "consequence",
    "operators",
    "versions",
    "rules",
    "rules_of",
    "runtimes",
    "vela",
}


@dataclass(frozen=True)
class Target:
    """One file of `targets/`.

    `severity` of its findings is "error" if the model does not run or is wrong, "warning" if
    it only runs slower; `consequence` says so in words. `versions` maps an operator to the highest
    version known. `runtimes` are those of `verify` that compute what it computes. `vela` holds the
    options of Arm's compiler.
    """

    name: str
    description: str
    evidence: list[str]
    severity: str
    consequence: str
    operators: frozenset[str]
    versions: dict[str, int] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    runtimes: list[str] = field(default_factory=list)
    vela: dict[str, str] = field(default_factory=dict)


def target_names() -> list[str]:
    """Returns the names of the targets that `check`, `write_report` and the command line take.

    Example:
        >>> target_names()[-2:]
        ['tflite-micro', 'tflite_cpu']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def load_target(name: str) -> Target:
    """Returns a target by name.

    Raises:
        ModelError: if there is none of that name.

    Example:
        >>> load_target("ethos-u55-128").severity
        'warning'
    """
    if name not in target_names():
        raise ModelError(
            "", f"A target is one of {', '.join(target_names())}", received=f"target={name!r}"
        )
    table = _read(name)
    table["operators"] = frozenset(table.get("operators", ())) | set(table.get("versions", ()))
    return Target(name, **table)


def _read(name: str) -> dict[str, Any]:
    table = tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))
    if unknown := set(table) - _KEYS:
        raise ModelError(
            f"targets/{name}.toml",
            f"a key is one of {sorted(_KEYS)}",
            received=str(sorted(unknown)),
        )
    if (base := table.pop("rules_of", None)) is None:
        return table
    shared = {
        key: value
        for key, value in _read(base).items()
        if key in ("operators", "versions", "rules")
    }
    return shared | table


def target_findings(tflite: bytes, target: Target) -> list[Finding]:
    """Returns what of a model a target does not take, operator by operator.

    Args:
        tflite: the model.
        target: what `load_target` returned.

    Raises:
        ModelError: for a damaged file.
    """
    findings = []
    for operator in read_operators(tflite):
        with reading(tflite):
            findings += _findings_on(operator, target)
    return findings


def _findings_on(operator: Operator, target: Target) -> list[Finding]:
    if operator.kind not in target.operators:
        return [_unknown(operator, target)]
    newest = target.versions.get(operator.kind, operator.version)
    too_new = [_too_new(operator, target)] if operator.version > newest else []
    broken = [_broken(operator, rule, target) for rule in target.rules if _breaks(operator, rule)]
    return too_new + broken


def _unknown(operator: Operator, target: Target) -> Finding:
    is_end = operator.kind in ("QUANTIZE", "DEQUANTIZE")
    return Finding(
        operator.name,
        f"{target.name} has no {operator.kind}: {target.consequence}",
        operator.kind,
        "Export with int8 ends, the default"
        if is_end
        else "Replace the layer by one the target has",
        target.severity,
    )


def _too_new(operator: Operator, target: Target) -> Finding:
    return Finding(
        operator.name,
        f"{target.name} knows {operator.kind} up to version {target.versions[operator.kind]}: "
        f"{target.consequence}",
        f"version {operator.version}",
        "Export with the default storage of weights, int8",
        target.severity,
    )


def _broken(operator: Operator, rule: dict[str, Any], target: Target) -> Finding:
    measure, words = rule["measure"], rule["measure"].replace("_", " ")
    if "max" in rule:
        bound = f"at most {rule['max']:,}"
    elif "within" in rule:
        bound = f"within {', '.join(rule['within'])}"
    else:
        bound = "one of " * (len(rule["one_of"]) > 1) + ", ".join(map(str, rule["one_of"]))
    lifted = " and ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in rule.get("unless", {}).items()
    )
    return Finding(
        operator.name,
        f"{target.name} takes {operator.kind} with {words} {bound}{lifted and f', or {lifted}'}: "
        f"{target.consequence}",
        f"{words} {_shown(MEASURES[measure](operator))}",
        rule["fix"],
        target.severity,
    )


def _shown(value: Any) -> str:
    if isinstance(value, set):
        return ", ".join(sorted(value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _breaks(operator: Operator, rule: dict[str, Any]) -> bool:
    if "operators" in rule and operator.kind not in rule["operators"]:
        return False
    unless = rule.get("unless")
    if unless and all(MEASURES[name](operator) == value for name, value in unless.items()):
        return False
    value = MEASURES[rule["measure"]](operator)
    if "max" in rule:
        return value > rule["max"]
    return not value <= set(rule["within"]) if "within" in rule else value not in rule["one_of"]


def _weights(operator: Operator) -> Any:
    """Returns the weights of a convolution or a fully connected layer."""
    return operator.inputs[1]


def _window(operator: Operator) -> tuple[int, int]:
    if hasattr(operator.options, "filterHeight"):
        return operator.options.filterHeight, operator.options.filterWidth
    return tuple(int(n) for n in _weights(operator).shape[1:3])  # type: ignore[return-value]


def _padding(operator: Operator) -> str:
    """Returns "VALID" if SAME pads nothing as well."""
    options, sizes = operator.options, operator.inputs[0].shape[1:3]
    strides, dilations = (options.strideH, options.strideW), _dilations(operator)
    axes = zip(sizes, _window(operator), strides, dilations, strict=True)
    pads = any(
        stride_remainder(int(n), (k - 1) * dilation + 1, stride) < 0
        for n, k, stride, dilation in axes
    )
    return "SAME" if pads and options.padding == schema.Padding.SAME else "VALID"


def _dilations(operator: Operator) -> tuple[int, int]:
    return getattr(operator.options, "dilationHFactor", 1), getattr(
        operator.options, "dilationWFactor", 1
    )


def _reduced(operator: Operator) -> list[int]:
    axes = np.frombuffer(np.asarray(operator.data[1], np.uint8).tobytes(), np.int32)
    return [int(operator.inputs[0].shape[axis]) for axis in axes]


def _weights_per_output(operator: Operator) -> int:
    shape = _weights(operator).shape
    return int(np.prod(shape[1:3] if operator.kind == "DEPTHWISE_CONV_2D" else shape[1:]))


def _types(operator: Operator) -> set[str]:
    """Returns the types of the activations, constants left out."""
    activations = [
        tensor for tensor, data in zip(operator.inputs, operator.data, strict=True) if data is None
    ]
    return {dtype(tensor).upper() for tensor in (*activations, operator.output)}


def _grids(operator: Operator) -> str:
    grids = {
        () if q is None else (tuple(np.atleast_1d(q.scale)), tuple(np.atleast_1d(q.zeroPoint)))
        for q in (tensor.quantization for tensor in (*operator.inputs, operator.output))
    }
    return "equal" if len(grids) == 1 else "different"


def _enlargement(operator: Operator) -> float | str:
    before, after = operator.inputs[0].shape[1:3], operator.output.shape[1:3]
    high, wide = (int(b) / int(a) for a, b in zip(before, after, strict=True))
    return high if high == wide else f"{high:g} x {wide:g}"


MEASURES: dict[str, Callable[[Operator], Any]] = {
    "activation_types": _types,
    "dilation": lambda op: max(_dilations(op)),
    "enlargement": _enlargement,
    "grids": _grids,
    "half_pixel_centers": lambda op: bool(op.options.halfPixelCenters),
    "padding": _padding,
    "pixels": lambda op: int(np.prod(op.inputs[0].shape[1:-1])),
    "rank": lambda op: len(op.inputs[0].shape),
    "reduced_axis": lambda op: max(_reduced(op)),
    "reduced_elements": lambda op: int(np.prod(_reduced(op))),
    "stride": lambda op: max(op.options.strideH, op.options.strideW),
    "strides": lambda op: f"{op.options.strideH}x{op.options.strideW}",
    "weight_type": lambda op: dtype(_weights(op)).upper(),
    "weights_per_output": _weights_per_output,
    "window_area": lambda op: int(np.prod(_window(op))),
    "window_height": lambda op: _window(op)[0],
    "window_side": lambda op: max(_window(op)),
}
