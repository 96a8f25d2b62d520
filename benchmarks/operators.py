"""In which elements processors and runtimes part, operator by operator: `make arm`.

One-operator files over many grids (`helpers/operator_cases.py`) on x86-64 and, under qemu, on ARM:
elements that differ from the simulator of the runtime's own arithmetic, and from LiteRT on x86-64.
Writes `results/operators.json` and prints the table. `--processors` repeats LiteRT's column of
aarch64 on other cores.
"""

import json
from typing import Any

import numpy as np
from tqdm import tqdm

from tfqreg.export import simulate, write_tflite
from tfqreg.export.ir import Graph
from tfqreg.export.verification import arm
from tfqreg.export.verification.compare import batch, simulator_mode
from tfqreg.export.verification.runtimes import (
    ARM_RUNTIMES,
    NOT_SIMULATED,
    RUNTIMES,
    missing,
    run,
)

from .helpers.arguments import add_names, benchmark_parser
from .helpers.operator_cases import CASES
from .helpers.record import RESULTS, write_result

# Enough that every kind of grid meets every other; tens of millions of elements for all operators.
GRIDS = 24
Figures = dict[str, int]


def figures(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> Figures:
    """Returns the elements that differ, and the largest difference in steps."""
    steps = [np.abs(found[name].astype(np.float64) - array) for name, array in expected.items()]
    return {
        "differing": sum(int((step != 0).sum()) for step in steps),
        "largest_step": int(max(step.max() for step in steps)),
    }


def measure(name: str, grids: int, seed: int, runtimes: list[str]) -> dict[str, Any]:
    """Returns an operator's row: a runtime's figures against its simulator and against x86-64."""
    graph, inputs = CASES[name](grids, seed)
    tflite = write_tflite(graph)
    on_x86 = run(tflite, inputs, "litert")
    row: dict[str, Any] = {
        "cases": len(graph.ops),
        "elements": sum(array.size for array in on_x86.values()),
        "runtimes": {},
    }
    for runtime in runtimes:
        row["runtimes"][runtime] = _on(runtime, graph, tflite, inputs, on_x86)
    return row


def _on(
    runtime: str,
    graph: Graph,
    tflite: bytes,
    inputs: dict[str, np.ndarray],
    on_x86: dict[str, np.ndarray],
) -> dict[str, Any]:
    mode = simulator_mode(runtime)
    try:
        found = run(tflite, inputs, runtime, batch(graph, mode))
    except RuntimeError as error:
        return {"refused": str(error)[-300:]}
    row: dict[str, Any] = {"from_x86": figures(found, on_x86)}
    if runtime.partition("@")[0] not in NOT_SIMULATED:
        row["from_simulator"] = figures(found, simulate(graph, inputs, mode))
    return row


def table(rows: dict[str, Any], runtimes: list[str]) -> str:
    """Returns the rows in Markdown: elements that differ, and by how many steps at most."""
    lines = [
        "| operator | cases | elements | " + " | ".join(runtimes) + " |",
        "|---" * (3 + len(runtimes)) + "|",
    ]
    for name, row in rows.items():
        cells = [_cell(row["runtimes"].get(runtime)) for runtime in runtimes]
        lines.append(f"| {name} | {row['cases']} | {row['elements']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "refused" in found:
        return "refused"
    texts = [
        f"{part['differing']:,}" + (f" by {part['largest_step']}" if part["differing"] else "")
        for part in (found.get("from_simulator"), found["from_x86"])
        if part is not None
    ]
    return " / ".join(texts)


def main() -> None:
    """Measures the operators named, and keeps the others' rows."""
    parser = benchmark_parser(__doc__)
    add_names(parser, "names", CASES)
    parser.add_argument("--grids", type=int, default=GRIDS, help="cases an operator: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processors", nargs="*", default=arm.PROCESSORS[:1], help="of qemu")
    arguments = parser.parse_args()
    cores = [f"litert-aarch64@{core}" for core in arguments.processors if core != arm.PROCESSOR]
    known = [*RUNTIMES, *ARM_RUNTIMES, *cores, *NOT_SIMULATED]
    runtimes = [name for name in known if missing(name) is None]
    path = RESULTS / "operators.json"
    rows = json.loads(path.read_text())["operators"] if path.is_file() else {}
    for name in tqdm(arguments.names):
        rows[name] = measure(name, arguments.grids, arguments.seed, runtimes)
        print(table({name: rows[name]}, runtimes).splitlines()[-1], flush=True)
        ordered = {known: rows[known] for known in CASES if known in rows}
        header = {"command": "make arm", "grids": arguments.grids, "seed": arguments.seed}
        write_result("operators", {**header, "operators": ordered})
    print(table(rows, runtimes))


if __name__ == "__main__":
    main()
