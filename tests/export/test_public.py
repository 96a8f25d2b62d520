"""What `tfqreg.export` exports, what it imports, and what it says of extras that are missing."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export import small_model
from tfqreg import export
from tfqreg.export import container
from tfqreg.export.cli import main

FOLDER = Path(export.__file__).parent
PACKAGE = "tfqreg.export"
MODULES = {
    ".".join([PACKAGE, *path.relative_to(FOLDER).with_suffix("").parts]).removesuffix(
        ".__init__"
    ): path
    for path in FOLDER.rglob("*.py")
}
# Each room may use the rooms before it, and the modules at the top that stand in the same line.
ORDER = [
    ["container"],
    ["finding", "ir"],
    ["kernels"],
    ["flatbuffer", "simulator"],
    ["forms", "lowering", "targets"],
    ["export", "tf_simulator"],
    ["checks", "verification"],
    ["diagnosis"],
    ["report"],
    ["cli"],
]
FLOORS = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}


def imports(name: str) -> set[str]:
    """The modules of the export that a module imports, inside functions as well."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = node.module or ""
        if node.level:
            parts = name.split(".") + ["__init__"] * (MODULES[name].name == "__init__.py")
            base = ".".join([*parts[: -node.level], *([base] if base else [])])
        if base.startswith(PACKAGE):
            whole = [f"{base}.{alias.name}" for alias in node.names]
            found |= {child if child in MODULES else base for child in whole}
    return found & set(MODULES)  # the C decoder is none


def room(name: str) -> str:
    return name.removeprefix(PACKAGE).strip(".").partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if room(name)])
def test_no_room_reaches_up_or_beside(name):
    for other in imports(name):
        same = room(other) == room(name)
        assert same or FLOORS[room(other)] < FLOORS[room(name)], f"{name} imports {other}"


def test_no_modules_import_each_other():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in imports(name):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("module", [export, container])
def test_all_is_what_there_is(module):
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_command_line_starts_without_what_is_slow():
    code = (
        "import sys; from tfqreg.export.cli.parser import build_parser; "
        "build_parser().format_help(); "
        "print({name.split('.')[0] for name in sys.modules}"
        " & {'keras', 'matplotlib', 'numpy', 'tensorflow', 'tqdm', 'ai_edge_litert'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in ("html", "pictures"):
        monkeypatch.delitem(sys.modules, f"tfqreg.export.report.{name}", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


INSTALL_REPORT = "report: pictures need matplotlib. Install it with pip install 'tfqreg[report]'."


def test_a_report_without_matplotlib(without_matplotlib, tmp_path, capsys):
    with pytest.raises(ImportError) as caught:
        importlib.import_module("tfqreg.export.report.html")
    assert str(caught.value) == INSTALL_REPORT
    assert main(["report", "no.keras", "-o", str(tmp_path / "r.html")]) == 2
    assert capsys.readouterr() == ("", f"tfqreg: {INSTALL_REPORT}\n")
    assert not list(tmp_path.iterdir())


def test_an_npu_without_vela(monkeypatch):
    monkeypatch.setitem(sys.modules, "ethosu", None)
    reason = "ethos-u-vela is not installed. Install it with pip install 'tfqreg[vela]'."
    assert export.missing_vela() == reason
    tflite = export.write_tflite(export.lower(small_model.trained()[0]))
    with pytest.raises(RuntimeError) as caught:
        export.compile_for_npu(tflite, "ethos-u55-128")
    assert str(caught.value) == f"ethos-u55-128: {reason}"


@pytest.mark.parametrize(
    "runtime, module, package",
    [
        ("tflite-runtime-ref", "tflite_runtime", "tfqreg[tflite-runtime]"),
        ("tflite-micro", "tflite_micro", "tflite-micro"),
    ],
)
def test_a_runtime_that_is_not_installed(monkeypatch, runtime, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    reason = f"{module} is not installed. Install it with pip install '{package}'"
    model = small_model.trained()[0]
    graph = export.lower(model)
    tflite = export.write_tflite(graph)
    from tfqreg.export.verification.compare import compare
    from tfqreg.export.verification.samples import graph_inputs

    report = compare(graph, tflite, graph_inputs(graph, small_model.data(4)), [runtime])
    assert report.skipped == {runtime: reason}
    assert not report.exact
