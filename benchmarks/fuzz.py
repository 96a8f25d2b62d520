"""Fuzzes the C decoder with libFuzzer, ASan and UBSan: `make fuzz`. Adds to results/fuzz.json."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

from .helpers.arguments import benchmark_parser
from .helpers.record import RESULTS, write_result

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "build" / "fuzz"
SANITIZE = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
# Tracing comparisons takes two thirds of the time, and the format has hardly a constant to find
# that way.
FLAGS = ["-g", "-O2", *SANITIZE, "-fno-sanitize-coverage=trace-cmp", "-DTQW_IGNORE_CHECKSUMS"]
# All golden files fit; longer inputs would only run more slowly.
MAX_INPUT_BYTES = 16384
# libFuzzer runs in the foreground for so long at a time, so that a stopped run is not lost.
TURN_SECONDS = 300


def build(folder: Path) -> Path:
    """Returns the fuzz target, made in `folder`; its seeds are the good vectors."""
    compiler = shutil.which("clang-14") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("fuzz: clang is needed and not installed. Install clang.")
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    sources = [ROOT / "tests/export/device/fuzz.c", ROOT / "export/device/tqw.c"]
    target = folder / "target"
    subprocess.run(
        [compiler, *FLAGS, "-I", ROOT / "export/device", *sources, "-o", target], check=True
    )
    for path in (ROOT / "tests/vectors/good").glob("*.tqw"):
        shutil.copy(path, folder / "corpus")
    return target


def turn(target: Path, folder: Path, seconds: int) -> tuple[int, int]:
    """Runs the target for so long; returns the executions and the findings, 0 or 1."""
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    command = [target, *options, f"-artifact_prefix={folder}/finding-", folder / "corpus"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    found = re.findall(r"number_of_executed_units: (\d+)", done.stderr) or re.findall(
        r"^#(\d+)", done.stderr, re.M
    )
    if done.returncode:
        (folder / "finding.txt").write_text(done.stderr)
        print(done.stderr[-3000:])
    return int(found[-1]) if found else 0, int(done.returncode != 0)


def main() -> None:
    """Fuzzes for so long, or until something is found."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="how long to run; default 3600")
    seconds = parser.parse_args().seconds
    target = build(CORPUS)
    path = RESULTS / "fuzz.json"
    total = (
        json.loads(path.read_text())
        if path.exists()
        else {"executions": 0, "seconds": 0, "findings": 0}
    )
    while seconds > 0 and not total["findings"]:
        part = min(seconds, TURN_SECONDS)
        began = time.monotonic()
        executions, findings = turn(target, CORPUS, part)
        total["executions"] += executions
        total["seconds"] += round(time.monotonic() - began)
        total["findings"] += findings
        write_result("fuzz", {key: total[key] for key in ("executions", "seconds", "findings")})
        print(f"{total['executions']:,} executions, {total['findings']} findings", flush=True)
        seconds -= part


if __name__ == "__main__":
    main()
