"""The report's section on a target: what breaks its rules, and what Vela makes of it."""

from html import escape
from pathlib import Path
from typing import Any

from ..checks import check
from ..container import unpack
from ..flatbuffer.read import file_bytes
from ..targets.rules import load_target, target_findings
from ..targets.vela import NpuReport, compile_for_npu, missing_vela

File = bytes | str | Path | None


def target_section(
    target: str, model: Any = None, tflite: File = None, container: File = None
) -> str:
    """Returns the HTML on a model's way to a target.

    Args:
        target: a name of `tfqreg.export.target_names()`.
        model, tflite, container: as `tfqreg.export.report.html.write_report`; a model that cannot
            be exported yet gets the findings of `check` alone.

    Raises:
        ModelError: if there is no such target.
        RuntimeError: if Vela fails on the model.
    """
    rules = load_target(target)
    file = _file(model, tflite, container)
    findings = check(model, target) if file is None else target_findings(file, rules)
    facts = {"target": rules.description}
    if file is not None and rules.vela:
        missing = missing_vela()
        facts |= {"Vela": missing} if missing else _facts(compile_for_npu(file, target))
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()
    )
    items = "".join(f"<li>{escape(str(finding))}</li>" for finding in findings)
    return f"<dl>{rows}</dl>{items and f'<ul>{items}</ul>'}"


def _file(model: Any, tflite: File, container: File) -> bytes | None:
    """Returns the `.tflite`, made from what is there; None if the model has no integer form."""
    if tflite is not None:
        return file_bytes(tflite)
    if container is not None:
        return unpack(file_bytes(container))
    from ..flatbuffer.write import write_tflite
    from ..lowering.lower import lower

    try:
        return write_tflite(lower(model))
    except (TypeError, ValueError):
        return None


def _facts(report: NpuReport) -> dict[str, str]:
    return {
        "operators on the NPU": f"{report.npu_operators:,} of {report.operators:,} "
        f"({report.npu_fraction:.1%})",
        "operators on the CPU": ", ".join(report.cpu_operators) or "none",
        "off-chip flash (bytes)": f"{report.off_chip_flash_bytes:,}",
        "SRAM (bytes)": f"{report.sram_bytes:,}",
        "cycles per sample, estimated": f"{report.cycles:,}",
    }
