"""The console command `tfqreg`.

What is slow to import loads inside the commands that use it: Keras where a `.keras` is read, numpy
and the container where files are. So `tfqreg --help` answers at once.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .check import run_check
from .diagnose import run_diagnose
from .files import (
    UserError,
    about,
    bar,
    check_targets,
    extra,
    kind_of,
    load_model,
    load_samples,
    quiet,
    read,
    write,
    writing,
)
from .history import load_history
from .parser import build_parser
from .quantize import run_quantize


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0 is success, 1 that `verify` or `check` finds an error, 2 wrong input.

    Args:
        argv: the command line without the program's name; the process's own by default.

    Example:
        >>> main(["pack", "m.tflite", "-o", "m.tqw"])
        m.tqw: ... bytes, ... times smaller than m.tflite
        0
    """
    try:
        arguments = build_parser().parse_args(argv)
        return _RUN[arguments.command](arguments)
    except UserError as error:
        print("tfqreg:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tfqreg: interrupted, nothing was written", file=sys.stderr)
        return 130


def _export(arguments: argparse.Namespace) -> int:
    source, targets = Path(arguments.model), [Path(arguments.output)]
    if arguments.container:
        targets.append(Path(arguments.container))
    check_targets(source, *targets)
    model = load_model(source)
    from ..container import pack
    from ..export import exported_graph
    from ..flatbuffer.write import write_tflite

    with bar("Exporting", total=2) as progress:
        with about(source):
            forms = (
                arguments.float_io,
                arguments.portable,
                arguments.storage,
                arguments.scale_dtype,
                arguments.logits,
                arguments.target,
                arguments.input_type,
                arguments.output_type,
            )
            graph = exported_graph(model, *forms)
            files = [write_tflite(graph)]
        progress.update()
        if arguments.container:
            files.append(pack(files[0]))
    for target, data in zip(targets, files, strict=True):
        write(target, data)
        print(f"{target}: {len(data):,} bytes")
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from ..container import pack

    return _convert(arguments, "tflite", pack, "smaller")


def _unpack(arguments: argparse.Namespace) -> int:
    from ..container import unpack

    return _convert(
        arguments,
        "tqw",
        lambda data, progress, base: unpack(data, progress=progress, base=base),
        "larger",
    )


def _convert(
    arguments: argparse.Namespace, kind: str, convert: Callable[..., bytes], word: str
) -> int:
    source, target = Path(arguments.file), Path(arguments.output)
    check_targets(source, target)
    data = read(source, kind)
    base = read(Path(arguments.base), "tflite", "tqw") if arguments.base else None
    with bar(source.name, unit="B", unit_scale=True) as shown, about(source):

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        result = convert(data, progress=progress, base=base)
    write(target, result)
    ratio = len(data) / len(result) if word == "smaller" else len(result) / len(data)
    print(f"{target}: {len(result):,} bytes, {ratio:.1f} times {word} than {source}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from ..container import format_account, inspect
    from ..report.summary import format_summary

    path = Path(arguments.file)
    summary = _summary_of(path)
    print(json.dumps(asdict(summary), indent=2) if arguments.json else format_summary(summary))
    if not arguments.json and kind_of(data := read(path, "keras", "tflite", "tqw")) == "tqw":
        print(f"\n{format_account(inspect(data))}")
    return 0


def _summary_of(path: Path) -> Any:
    from ..report.summary import summarize, summarize_model

    parts = _parts_of(path)
    with bar(f"Measuring {path.name}", total=1), about(path):
        if "model" in parts:
            return summarize_model(parts["model"])
        return summarize(**parts)


def _parts_of(path: Path) -> dict[str, Any]:
    """Returns what a file holds: "model", or "tflite" and "container"."""
    data = read(path, "keras", "tflite", "tqw")
    kind = kind_of(data)
    if kind == "keras":
        return {"model": load_model(path, quantized=False)}
    from ..container import pack, unpack

    with bar(f"Reading {path.name}", total=1), about(path):
        if kind == "tqw":
            return {"tflite": unpack(data), "container": data}
        return {"tflite": data, "container": pack(data)}


def _report(arguments: argparse.Namespace) -> int:
    with extra():
        from ..report.html import write_report

    source, target = Path(arguments.file), Path(arguments.output)
    check_targets(source, target)
    history = load_history(Path(arguments.history)) if arguments.history else {}
    samples = load_samples(Path(arguments.samples)) if arguments.samples else None
    parts = _parts_of(source)
    curves = {name: history[name] for name in ("float", "quantized") if name in history}
    others = {name: history.get(name) for name in ("figures", "result")}
    with bar("Drawing", total=1), about(source), writing(target):
        found = _diagnosis(parts.get("model"), samples, arguments)
        write_report(
            target, **parts, history=curves, **others, target=arguments.target, diagnosis=found
        )
    print(f"{target}: {target.stat().st_size:,} bytes")
    return 0


def _diagnosis(model: Any, samples: Any, arguments: argparse.Namespace) -> Any:
    if samples is None:
        return None
    if model is None:
        raise UserError(f"{arguments.file}: --samples needs the quantized .keras")
    from ..diagnosis.diagnose import diagnose

    reference = load_model(Path(arguments.float), False) if arguments.float else None
    return diagnose(model, samples, reference)


def _verify(arguments: argparse.Namespace) -> int:
    from ..container.tflite.locate import locate

    samples = load_samples(Path(arguments.samples))
    with about(arguments.tflite):
        locate(read(Path(arguments.tflite), "tflite"))
    model = load_model(Path(arguments.model))
    from ..verification.verify import verify

    count = max(map(len, samples.values())) if isinstance(samples, dict) else len(samples)
    comparing = bar("Comparing", total=count, unit="sample")
    with comparing as progress, about(arguments.tflite, arguments.samples), quiet():
        report = verify(model, arguments.tflite, samples, arguments.runtimes, progress.update)
    print(report)
    return 0 if report.exact else 1


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "quantize": run_quantize,
    "export": _export,
    "pack": _pack,
    "unpack": _unpack,
    "inspect": _inspect,
    "check": run_check,
    "verify": _verify,
    "diagnose": run_diagnose,
    "report": _report,
}
