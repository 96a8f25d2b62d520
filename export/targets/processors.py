"""Where a target's runtime computes other codes than LiteRT on the machine that exports."""

from ..finding import Finding
from ..ir import Graph
from ..kernels.agreement import parts
from .rules import Target

_FIXES = {
    "SOFTMAX": "Export with logits=True: their argmax is the same; or simulate with "
    'runtime="arm64"',
    "MUL": "Give its output a grid that no other tensor shares: an activation quantizer of its "
    'own; or simulate with runtime="arm64"',
}
_DEFAULT_FIX = 'Simulate with runtime="arm64"'


def processor_findings(graph: Graph, target: Target) -> list[Finding]:
    """Returns a warning for each operator whose codes differ between x86-64 and arm64.

    They differ by one step, and seldom; `verify` and `simulate` know both.

    Args:
        graph: the integer graph.
        target: what `load_target` returned.
    """
    if not any("aarch64" in runtime for runtime in target.runtimes):
        return []
    return [
        Finding(
            op.outputs[0],
            f"LiteRT rounds {op.kind} in another way on arm64 than on x86-64: single codes differ "
            "by one step",
            op.kind,
            _FIXES.get(op.kind, _DEFAULT_FIX),
            "warning",
        )
        for op in graph.ops
        if parts(op, tuple(graph.tensors[name] for name in op.inputs), graph.tensors[op.outputs[0]])
    ]
