"""`tfqreg diagnose`: which tensors lose accuracy, and why."""

import argparse
from pathlib import Path

from .files import about, bar, check_targets, load_model, load_samples, quiet, write


def run_diagnose(arguments: argparse.Namespace) -> int:
    """Prints what `tfqreg.diagnose` says; writes its node data where asked."""
    source = Path(arguments.model)
    if arguments.json:
        check_targets(source, Path(arguments.json))
    samples = load_samples(Path(arguments.samples))
    model = load_model(source)
    reference = load_model(Path(arguments.float), quantized=False) if arguments.float else None
    from ..diagnosis.diagnose import diagnose

    with bar("Comparing", total=1) as progress, about(source, arguments.samples), quiet():
        found = diagnose(model, samples, reference)
        progress.update()
    print(found)
    if arguments.json:
        write(Path(arguments.json), found.to_json().encode())
        print(f"{arguments.json}: node data for Model Explorer")
    return 0
