"""`tfqreg check`: a table of findings, before any training."""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

from ..container.inspection.text_table import aligned
from ..finding import Finding
from .files import UserError, about, bar, kind_of, lambda_layers, load_model, read

_HEADER = ("", "layer", "rule", "received", "fix")
_WIDEST_NAME = 24  # characters; longer paths break, so that rule and fix keep most of the width
_NARROWEST = 12  # characters, of a column of words; most words fit


def run_check(arguments: argparse.Namespace) -> int:
    """Prints what was found; returns 1 for an error, else 0."""
    path, target = Path(arguments.file), arguments.target
    is_keras = kind_of(read(path, "keras", "tflite")) == "keras"
    findings = _of_model(path, target) if is_keras else _of_file(path, target)
    if findings:
        print(format_findings(findings, shutil.get_terminal_size((120, 24)).columns), end="\n\n")
    errors = sum(finding.severity == "error" for finding in findings)
    on_target = f" for {target}" if target else ""
    print(
        f"{path}{on_target}: {_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}"
    )
    return 1 if errors else 0


def format_findings(findings: Sequence[Finding], width: int) -> str:
    """Returns a table whose cells break at words.

    Args:
        findings: one per row.
        width: of the table, in characters; wider if five columns need it.
    """
    rows = [(f.severity, f.path, f.rule, f.received, f.fix) for f in findings]
    widths = [max(len(row[column]) for row in [_HEADER, *rows]) for column in range(5)]
    widths[1], widths[3] = min(widths[1], _WIDEST_NAME), min(widths[3], _WIDEST_NAME)
    left = width - widths[0] - widths[1] - widths[3] - 2 * (len(widths) - 1)
    widths[2] = min(widths[2], max(left // 2, _NARROWEST))
    widths[4] = min(widths[4], max(left - widths[2], _NARROWEST))
    return aligned([line for row in [_HEADER, *rows] for line in _lines(row, widths)], "<<<<<")


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterable[tuple[str, ...]]:
    """Returns one row of the table as the lines that its cells break into."""
    cells = [wrap(text, width) if width else [] for text, width in zip(row, widths, strict=True)]
    return zip_longest(*cells, fillvalue="")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _of_model(path: Path, target: str | None) -> list[Finding]:
    if lambdas := lambda_layers(path):
        # Keras loads none from a file, so nothing else can be looked at.
        fix = "Replace it by a layer of Keras, and save the model again"
        return [Finding(name, "Lambda has no integer form", "Lambda", fix) for name in lambdas]
    model = load_model(path, quantized=False)
    from ..checks import check

    with bar(f"Checking {path.name}", total=1), about(path):
        return check(model, target)


def _of_file(path: Path, target: str | None) -> list[Finding]:
    if target is None:
        raise UserError(f"{path}: a .tflite is checked for a target. Give --target. Received: none")
    from ..targets.rules import load_target, target_findings
    from ..targets.vela import compile_for_npu, missing_vela

    with bar(f"Checking {path.name}", total=1), about(path):
        rules = load_target(target)
        data = path.read_bytes()
        findings = target_findings(data, rules)
        if rules.vela and not missing_vela():
            print(compile_for_npu(data, target))
    return findings
