"""What an Arm Ethos-U NPU makes of a `.tflite`, as Arm's compiler Vela computes it.

Needs the extra `tfqreg[vela]`.
"""

import csv
import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tfqreg.errors import ModelError

from ..flatbuffer.read import read_operators
from .rules import load_target

_KIB = 1024
_LONGEST_REASON = 2000  # characters, from the end, where Python names the error
_REFUSAL = re.compile(
    r"Warning \(supported operators\) operator: \w+, ofm: '(.*)'\nReason: ((?:.+\n?)+)"
)


@dataclass(frozen=True)
class NpuReport:
    """One compilation for an Ethos-U.

    Operators are those of the `.tflite`; `cpu_operators` maps "KIND tensor" to Vela's reason.

    `off_chip_flash_bytes` holds the compressed weights and the commands; `cycles` is Vela's
    estimate for one sample.
    """

    target: str
    operators: int
    off_chip_flash_bytes: int
    dram_bytes: int
    sram_bytes: int
    cycles: int
    macs: int
    cpu_operators: dict[str, str] = field(default_factory=dict)

    @property
    def npu_operators(self) -> int:
        """The number of operators that the NPU runs."""
        return self.operators - len(self.cpu_operators)

    @property
    def npu_fraction(self) -> float:
        """The fraction of operators that the NPU runs, 0 to 1."""
        return self.npu_operators / self.operators

    def __str__(self) -> str:
        return (
            f"{self.target}: {self.npu_operators} of {self.operators} operators on the NPU, "
            f"{self.off_chip_flash_bytes:,} bytes of off-chip flash, {self.sram_bytes:,} bytes of "
            f"SRAM, {self.cycles:,} cycles (Vela's estimate)"
        )


def missing_vela() -> str | None:
    """Returns why nothing can be compiled here, with the remedy; None if it can.

    Example:
        >>> missing_vela() or "installed"
        'installed'
    """
    found = importlib.util.find_spec("ethosu")
    remedy = "Install it with pip install 'tfqreg[vela]'."
    return None if found else f"ethos-u-vela is not installed. {remedy}"


def compile_for_npu(tflite: bytes, target: str) -> NpuReport:
    """Compiles a model for an Ethos-U and returns what of it the NPU runs, and what it takes.

    Args:
        tflite: the model.
        target: a name of `tfqreg.export.target_names()` that has a compiler, such as
            "ethos-u55-128".

    Raises:
        ModelError: for another target.
        RuntimeError: if Vela is not installed or fails on the model.

    Example:
        >>> compile_for_npu(tflite, "ethos-u55-128").npu_fraction
        1.0
    """
    options = load_target(target).vela
    if not options:
        raise ModelError(
            "", "No NPU compiler knows this target", "Give an Ethos-U", f"target={target!r}"
        )
    if reason := missing_vela():
        raise RuntimeError(f"{target}: {reason}")
    operators = read_operators(tflite)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.tflite")
        source.write_bytes(tflite)
        log = _vela(source, options)
        compiled = read_operators(source.with_name("model_vela.tflite").read_bytes())
        with open(next(Path(folder).glob("model_summary_*.csv")), newline="") as file:
            figures = next(csv.DictReader(file))
    reasons = {name: " ".join(why.split()) for name, why in _REFUSAL.findall(log)}
    on_cpu = [operator for operator in compiled if operator.kind != "CUSTOM"]
    return NpuReport(
        target,
        len(operators),
        off_chip_flash_bytes=_bytes(figures["off_chip_flash_memory_used"]),
        dram_bytes=_bytes(figures["dram_memory_used"]),
        sram_bytes=_bytes(figures["sram_memory_used"]),
        cycles=round(float(figures["cycles_total"])),
        macs=round(float(figures["nn_macs"])),
        cpu_operators={
            f"{op.kind} {op.name}": reasons.get(op.name, "Vela gives no reason") for op in on_cpu
        },
    )


def _vela(source: Path, options: dict[str, str]) -> str:
    """Runs Vela in a process of its own and returns what it prints.

    A model that it cannot take may crash it.
    """
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [
        sys.executable,
        "-m",
        "ethosu.vela",
        str(source),
        "--output-dir",
        str(source.parent),
        *named,
    ]
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=source.parent
    )
    if process.returncode:
        said = process.stderr.strip().splitlines() or [f"it ended with code {process.returncode}"]
        raise RuntimeError(f"Vela failed on the model: {said[-1][-_LONGEST_REASON:]}")
    return process.stdout


def _bytes(kibibytes: str) -> int:
    return round(float(kibibytes) * _KIB)
