"""The command lines of the benchmarks."""

import argparse
from collections.abc import Iterable


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser whose help shows the docstring of a benchmark as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_names(parser: argparse.ArgumentParser, dest: str, known: Iterable[str]) -> None:
    """Adds the argument `dest`: what to measure, all that is known by default."""
    names = list(known)
    listed = "; ".join(names).replace("%", "%%")
    parser.add_argument(dest, nargs="*", default=names, help=f"all by default: {listed}")
