"""Runs the notebooks at full length and stores what they print and draw: `make notebooks`.

A notebook runs in an empty folder, as on Colab: it sees the installed package and nothing of the
checkout. Outputs are stored without what differs from run to run: times, paths, warnings.
`python -m notebooks.run --badges` runs none, and only sets or removes the links to Colab.
"""

import argparse
import os
import re
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat import NotebookNode

from benchmarks.helpers.data import mnist

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
BADGE = "badge"
# By a pattern: a reader of YAML comes with the tools of the site alone.
REPOSITORY = re.compile(r"^extra:\n(?:[ #].*\n)*?  repository: *[\"']?([^\"'\s#]*)", re.MULTILINE)
# Keras downloads MNIST. Here its loader reads the digits of a package that the project installs, so
# that the notebooks run without a network.
STARTUP = """
import keras, numpy

def load_data(path="mnist.npz"):
    with numpy.load({file!r}) as digits:
        return tuple(tuple(digits[f"{{k}}_{{part}}"] for k in "xy") for part in ("train", "test"))

keras.datasets.mnist.load_data = load_data
"""
# "Epoch 1/3" and the line after it keep their figures; seconds and steps differ from run to run.
TIMES = re.compile(r"^(\d+/\d+) - \d+s - [\d.]+[mu]?s/(?:step|epoch) - ", re.MULTILINE)


def store_digits(folder: Path) -> Path:
    """Writes MNIST as keras.datasets keeps it, and returns its path."""
    train, _, test = mnist(validation=0)
    arrays = {
        f"{name}_{part}": array
        for part, (x, y) in (("train", train), ("test", test))
        for name, array in (("x", np.rint(255 * x[..., 0]).astype(np.uint8)), ("y", y))
    }
    path = folder / "mnist.npz"
    np.savez(path, **arrays)
    return path


def run(notebook: NotebookNode, folder: Path, digits: Path) -> None:
    """Runs all cells in `folder`; their outputs are then in the notebook.

    Args:
        notebook: changed in place.
        folder: the working directory of its kernel.
        digits: what `store_digits` returned.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel():
        # The client stores what it runs, so the hidden cell stands on top for as long as it runs.
        startup = nbformat.v4.new_code_cell(STARTUP.format(file=str(digits)))
        notebook.cells.insert(0, startup)
        client.execute_cell(startup, 0, store_history=False)
        del notebook.cells[0]
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)


def normalise(notebook: NotebookNode) -> None:
    """Removes from a notebook what differs from run to run.

    Raises:
        ValueError: for an output that names a folder of this machine.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _one_stream(cell.outputs)
            for output in cell.outputs:
                if "text" in output:
                    output.text = TIMES.sub(r"\1 - ", output.text)
                _check_paths(output, cell.id)


def _one_stream(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Returns the outputs without stderr, pieces of stdout that follow each other joined."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type != "stream":
            joined.append(output)
        elif output.name == "stdout":
            if joined and joined[-1].output_type == "stream":
                joined[-1].text += output.text
            else:
                joined.append(output)
    return joined


def _check_paths(output: NotebookNode, cell: str) -> None:
    text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
    for place in (tempfile.gettempdir() + os.sep, str(ROOT), str(Path.home()) + os.sep):
        if place in text:
            raise ValueError(f"{cell}: its output names a folder of this machine. Received: {text}")


def repository() -> str:
    """Returns the public address of the project, as `extra.repository` in mkdocs.yml has it, or ""
    while there is none.
    """
    file = ROOT / "mkdocs.yml"
    found = REPOSITORY.search(file.read_text()) if file.is_file() else None
    return found[1] if found else ""


def set_badge(notebook: NotebookNode, name: str, address: str) -> None:
    """Puts the link that opens a notebook on Colab on top of it, if the project has an address.

    Args:
        notebook: changed in place.
        name: of its file.
        address: of the repository on GitHub; "" takes the link away.
    """
    cells = [cell for cell in notebook.cells if BADGE not in cell.metadata.get("tags", ())]
    if address:
        colab = "https://colab.research.google.com"
        place = address.removeprefix("https://github.com/").strip("/")
        picture = f"[![Open in Colab]({colab}/assets/colab-badge.svg)]"
        link = f"({colab}/github/{place}/blob/main/notebooks/{name})"
        badge = nbformat.v4.new_markdown_cell(picture + link, metadata={"tags": [BADGE]})
        cells = [badge, *cells]
    notebook.cells = cells


def main() -> None:
    """Runs the notebooks that the command line names, all by default, and stores their outputs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    parser.add_argument("--badges", action="store_true", help="runs none, sets the links to Colab")
    arguments, address = parser.parse_args(), repository()
    with tempfile.TemporaryDirectory() as data:
        digits = None if arguments.badges else store_digits(Path(data))
        for path in arguments.notebooks:
            start = time.monotonic()
            notebook = nbformat.read(path, as_version=4)
            set_badge(notebook, path.name, address)
            if digits:
                with tempfile.TemporaryDirectory() as folder:
                    run(notebook, Path(folder), digits)
            normalise(notebook)
            nbformat.write(notebook, path)
            print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
