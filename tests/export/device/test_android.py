"""The JNI and Tqw.java on a host JVM: golden files, damaged caches, threads and processes."""

import subprocess
from pathlib import Path

import pytest

from tests.export.device.builds import DEVICE, STRICT, TESTS, VECTORS, build, run, tool

JAVA = DEVICE / "android" / "src" / "main" / "java" / "org" / "tfqreg"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Returns the command that starts TqwTest."""
    folder = tmp_path_factory.mktemp("classes")
    compiler = Path(tool("javac"))
    headers = compiler.resolve().parents[1] / "include"
    if not (headers / "jni.h").exists():
        pytest.skip(f"{headers}/jni.h is missing: a JDK for Linux has it")
    flags = ["-O2", "-fPIC", "-shared", "-I", headers, "-I", headers / "linux"]
    sources = [DEVICE / "android" / "tqw_jni.c", DEVICE / "unpack.c", DEVICE / "tqw.c"]
    build(*flags, *sources).rename(folder / "libtqw_jni.so")
    run(
        compiler,
        "-Xlint:all",
        "-Werror",
        "-d",
        folder,
        *JAVA.glob("*.java"),
        TESTS / "java" / "TqwTest.java",
    )
    return [
        tool("java"),
        "-Xshare:auto",
        f"-Djava.library.path={folder}",
        "-cp",
        str(folder),
        "TqwTest",
    ]


def test_golden_files_and_caches(program: list[str], tmp_path: Path) -> None:
    assert run(*program, "all", VECTORS, tmp_path) == "all right\n"


def test_processes_at_once(program: list[str], tmp_path: Path) -> None:
    command = [*program, "open", str(VECTORS / "good" / "mixed.tqw"), str(tmp_path), "60"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert (output, errors) == ("all right\n", "")
    assert all(path.name.endswith(".tflite") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) <= 1


def test_jni_has_no_warnings(tmp_path: Path) -> None:
    headers = Path(tool("javac")).resolve().parents[1] / "include"
    compiler = tool("clang-14", "clang")
    source = DEVICE / "android" / "tqw_jni.c"
    run(
        compiler,
        *STRICT,
        "-I",
        headers,
        "-I",
        headers / "linux",
        "-c",
        source,
        "-o",
        tmp_path / "object",
    )
