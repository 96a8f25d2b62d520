"""Every notebook runs from beginning to end, on few data, and is stored with what it showed.

The kernel is that of an environment without tfqreg, outside the checkout: as on Colab, the first
cell installs the wheel, here the one just built.
"""

import ast
import json
import os
import sys
import venv
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from notebooks.run import NOTEBOOKS, normalise, repository, run, set_badge, store_digits

ROOT = Path(__file__).parents[1]
PUBLIC = {"tfqreg", "tfqreg.export", "tfqreg.export.container"}
EXACT = "litert: 0 of"


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return store_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """The folder that describes to Jupyter the Python of an environment that has everything
    installed here but tfqreg.
    """
    home, shared = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("jupyter")
    venv.create(home)
    packages = next(home.glob("lib/python*/site-packages"))
    for entry in [
        entry for place in sys.path if place.endswith("-packages") for entry in os.scandir(place)
    ]:
        link = packages / entry.name
        if "tfqreg" not in entry.name and not entry.name.endswith(".pth") and not link.exists():
            link.symlink_to(entry.path)
    spec = shared / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [str(home / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    return shared


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells: list[NotebookNode]) -> str:
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


@pytest.mark.long
def test_runs_where_nothing_but_the_wheel_is(
    notebook, digits, wheel, kernels, tmp_path, monkeypatch
):
    monkeypatch.setenv("FAST", "1")
    monkeypatch.setenv("TFQREG_WHEEL", str(wheel))
    monkeypatch.setenv("JUPYTER_PATH", str(kernels))
    # Without these pip could replace, through their links, the packages that run this test.
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    where = nbformat.v4.new_code_cell("print(tq.__file__)")
    notebook.cells.append(where)
    run(notebook, tmp_path, digits)
    assert EXACT in printed(code_cells(notebook))
    assert "environment" in printed([where]), "not the wheel was run"


def test_is_stored_with_its_outputs(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert EXACT in printed(cells[-1:]), "it ends with `verify`"


def test_imports_public_names_alone(notebook):
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert "sys.path" not in code
    assert "benchmarks" not in code
    nodes = list(ast.walk(ast.parse(code.replace("%pip", "pass  # %pip"))))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    assert {name for name in modules if name.split(".")[0] == "tfqreg"} <= PUBLIC


def test_is_stored_in_the_normal_form_with_the_badge_of_the_setting():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        set_badge(notebook, path.name, repository())
        normalise(notebook)
        assert nbformat.writes(notebook) == path.read_text().rstrip("\n"), (
            "run: python -m notebooks.run --badges"
        )


def test_the_badge_is_there_only_with_an_address(notebook):
    set_badge(notebook, "01_first_model.ipynb", "")
    without = list(notebook.cells)
    assert not any("colab.research" in cell.source for cell in without)
    for _ in range(2):
        set_badge(notebook, "01_first_model.ipynb", "https://github.com/owner/name")
    badge, *rest = notebook.cells
    assert badge.source.endswith("/github/owner/name/blob/main/notebooks/01_first_model.ipynb)")
    assert rest == without


def test_an_output_that_names_a_folder_of_this_machine_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("print(folder)")
    cell.outputs = [nbformat.v4.new_output("stream", text=f"{tmp_path}\n")]
    with pytest.raises(ValueError, match="a folder of this machine"):
        normalise(nbformat.v4.new_notebook(cells=[cell]))
