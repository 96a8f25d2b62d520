"""The console command `tfqreg`.

Keras loads inside the commands that read a `.keras`, so that the others start at once.
"""

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from .container import ContainerError, pack, unpack
from .container.files import write_atomically
from .container.locate import IDENTIFIER, locate
from .container.sections import MAGIC

_BATCH = 128
_LONGEST_REASON = 400
_ZIP = b"PK\x03\x04"
_REMEDIES = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Choose a path you may use, or change its permissions.",
    errno.ENOSPC: "Free some space, or write elsewhere.",
    errno.EISDIR: "Give a file.",
}


class UserError(Exception):
    """What a user can put right; its text names the file, what was received, and the remedy."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as any other wrong input: in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns 0, or 1 where `verify` finds a difference, or 2 for wrong input.

    Args:
        argv: the command line without the program's name; the process's own by default.

    Example:
        >>> main(["pack", "m.tflite", "-o", "m.tqw"])
        m.tqw: 9,640 bytes, 45.1 times smaller than m.tflite
        0
    """
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except UserError as error:
        print("tfqreg:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tfqreg: interrupted, nothing was written", file=sys.stderr)
        return 130


def _export(arguments: argparse.Namespace) -> int:
    targets = [Path(path) for path in (arguments.output, arguments.container) if path]
    _check_targets(arguments.model, *targets)
    model = _load_quantized(arguments.model)
    with _bar("Exporting", total=3) as bar:
        from .lower import lower
        from .tflite import write_tflite

        with _about(arguments.model):
            tflite = write_tflite(lower(model, arguments.float_io))
        bar.update()
        files = [tflite, *([pack(tflite)] if arguments.container else [])]
        bar.update()
        for target, data in zip(targets, files, strict=True):
            _write(target, data)
    for target, data in zip(targets, files, strict=True):
        print(f"{target}: {len(data):,} bytes")
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    return _convert(arguments, "tflite", pack, "smaller")


def _unpack(arguments: argparse.Namespace) -> int:
    return _convert(arguments, "tqw", lambda data, progress: unpack(data, progress=progress), "larger")


def _convert(arguments: argparse.Namespace, kind: str, convert: Callable[..., bytes], word: str) -> int:
    source, target = Path(arguments.file), Path(arguments.output)
    data = _read(source, kind)
    _check_targets(source, target)
    with _bar(source.name, unit="B", unit_scale=True) as bar, _about(source):

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = convert(data, progress=progress)
    _write(target, result)
    ratio = max(len(data), len(result)) / min(len(data), len(result))
    print(f"{target}: {len(result):,} bytes, {ratio:.1f} times {word} than {source}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from .summary import format_summary

    summary = _summary_of(Path(arguments.file))[0]
    print(json.dumps(asdict(summary), indent=2) if arguments.json else format_summary(summary))
    return 0


def _summary_of(path: Path) -> tuple[Any, Any, bytes | None, bytes | None]:
    """Returns a file's summary, its Keras model, its `.tflite` and its `.tqw`, as far as it has them."""
    from .summary import summarize, summarize_model

    data = _read(path)
    with _bar(f"Reading {path.name}", total=2) as bar, _about(path):
        if _kind(data) == "keras":
            model = _load(path)
            bar.update()
            return summarize_model(model), model, None, None
        tflite = unpack(data) if _kind(data) == "tqw" else data
        container = data if _kind(data) == "tqw" else pack(data)
        bar.update()
        return summarize(tflite, container), None, tflite, container


def _verify(arguments: argparse.Namespace) -> int:
    samples = _samples(Path(arguments.samples))
    with _about(arguments.tflite):
        locate(_read(Path(arguments.tflite), "tflite"))
    model = _load_quantized(arguments.model)
    from .model import verify
    from .verify import Report

    report = Report(0)
    count = min(map(len, samples.values())) if isinstance(samples, dict) else len(samples)
    with _bar("Comparing", total=count, unit="sample") as bar:
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            batch = {k: v[part] for k, v in samples.items()} if isinstance(samples, dict) else samples[part]
            with _about(f"{arguments.tflite}, {arguments.samples}"), _quiet():
                _add(report, verify(model, arguments.tflite, batch))
            bar.update(min(_BATCH, count - start))
    print(report)
    return 0 if report.exact else 1


def _add(total: Any, part: Any) -> None:
    """Adds the counts of one batch to a report."""
    total.samples += part.samples
    total.skipped |= part.skipped
    for runtime, found in part.runtimes.items():
        tensors = total.runtimes.setdefault(runtime, type(found)(found.mode)).tensors
        for name, difference in found.tensors.items():
            known = tensors.setdefault(name, type(difference)())
            known.compared_elements += difference.compared_elements
            known.mismatched_elements += difference.mismatched_elements
            known.max_difference = max(known.max_difference, difference.max_difference)


def _report(arguments: argparse.Namespace) -> int:
    from .report import write_report

    source, target = Path(arguments.file), Path(arguments.output)
    _check_targets(source, target)
    history = _history(Path(arguments.history)) if arguments.history else {}
    _, model, tflite, container = _summary_of(source)
    with _bar("Drawing", total=1), _about(source), _writing(target):
        write_report(
            target,
            model,
            tflite,
            container,
            history={name: history[name] for name in ("float", "quantized") if name in history},
            figures=history.get("figures"),
            result=history.get("result"),
        )
    print(f"{target}: {target.stat().st_size:,} bytes")
    return 0
