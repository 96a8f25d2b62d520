"""Every Python block and every `tfqreg` line of the documentation runs; Java and C blocks compile.

The blocks of a page share one namespace and one empty folder, in their order. Before a block may
stand, as an HTML comment,

    <!-- run
    code that a reader need not see
    -->
    <!-- not run: the reason -->

A `text` block right after a Python block is what it prints.
"""

import doctest
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs_setup import run_eagerly
from tfqreg.export.cli import main

ROOT = Path(__file__).parents[1]
DEVICE = ROOT / "export" / "device"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    DEVICE / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(
    r"^<!-- (?P<mark>run|not run:)(?P<hidden>.*?)-->$"
    r"|^(?P<fence>`{3,})(?P<language>\w*)\n(?P<code>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
# Shown, and nothing that runs: files, signatures, formulas, what a program prints.
SHOWN = {"text", "math"}
SPELLING = doctest.OutputChecker()
# As much of Android and LiteRT as the pages use, in signatures.
STUBS = {
    "android/content/Context.java": """package android.content;
public abstract class Context {
    public abstract java.io.File getCacheDir();
    public abstract android.content.res.AssetManager getAssets();
}""",
    "android/content/res/AssetManager.java": """package android.content.res;
public abstract class AssetManager {
    public abstract AssetFileDescriptor openFd(String name) throws java.io.IOException;
    public abstract java.io.InputStream open(String name) throws java.io.IOException;
}""",
    "android/content/res/AssetFileDescriptor.java": """package android.content.res;
public abstract class AssetFileDescriptor implements java.io.Closeable {
    public abstract java.io.FileInputStream createInputStream() throws java.io.IOException;
    public abstract long getStartOffset();
    public abstract long getDeclaredLength();
}""",
    "org/tensorflow/lite/Interpreter.java": """package org.tensorflow.lite;
public class Interpreter implements AutoCloseable {
    public Interpreter(java.nio.ByteBuffer model) {}
    public void run(Object input, Object output) {}
    public void close() {}
}""",
}
JAVA_SNIPPET = """import android.content.Context;
import java.io.File;
import java.nio.*;
import org.tensorflow.lite.Interpreter;
import org.tfqreg.Tqw;
import org.tfqreg.android.TqwAssets;
class Snippet {
    static Context context;
    static File cacheDirectory;
    static String path;
    static ByteBuffer input, output;
    static void snippet() throws Exception {
%s
    }
}
"""


# They train for a minute.
LONG = ("docs/guides/byte_budget.md", "docs/guides/few_bits.md")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Without graphs Keras remarks on coefficients and scales that a stage leaves alone.
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
# The guide to accuracy shows nets that `calibrate` warns of.
@pytest.mark.filterwarnings("ignore:.* lost:UserWarning")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.long] * (name_of(page) in LONG)) for page in PAGES],
    ids=name_of,
)
def test_the_blocks_of_a_page(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_eagerly(monkeypatch)
    names: dict = {"__name__": "page"}
    missing: list[str] = []
    text, skipped, printed, end = page.read_text(), False, "", 0
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        follows_code = printed and not text[end : block.start()].strip()
        end = block.end()
        if block["mark"] == "run":
            run_python("\n" * line + block["hidden"], page, names)
            continue
        if block["mark"]:
            assert len(block["hidden"].split()) > 2, f"{name_of(page)}:{line}: why not?"
            skipped = True
            continue
        language, code = block["language"], block["code"]
        if language == "text" and follows_code and not skipped:
            same = SPELLING.check_output(code, printed, doctest.ELLIPSIS)
            assert same, f"{name_of(page)}:{line} prints\n{printed}"
        elif not skipped and language not in SHOWN:
            capsys.readouterr()
            if language == "python":
                run_python("\n" * line + code, page, names)
            elif language == "sh":
                run_shell(code, f"{name_of(page)}:{line}")
            elif language in COMPILERS:
                compiler, compiles = COMPILERS[language]
                if shutil.which(compiler):
                    compiles(code, tmp_path)
                else:
                    missing.append(f"{compiler} is not installed: it checks a block of this page")
            else:
                pytest.fail(f"{name_of(page)}:{line}: a block of {language!r} gives no reason")
            printed = capsys.readouterr().out if language == "python" else ""
        skipped = False
    if missing:
        pytest.skip(missing[0])


def run_python(code: str, page: Path, names: dict) -> None:
    exec(compile(code, str(page), "exec"), names)


def run_shell(code: str, where: str) -> None:
    """Runs lines of the command `tfqreg` within this process, which has Keras already."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "tfqreg", f"{where}: {line}"
            assert main(words[1:]) == 0, f"{where}: {line}"


def compile_java(code: str, folder: Path) -> None:
    for name, stub in STUBS.items():
        (folder / "java" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "java" / name).write_text(stub)
    public = re.search(r"public (?:final )?class (\w+)", code)
    source = folder / "java" / f"{public[1] if public else 'Snippet'}.java"
    source.write_text(code if public else JAVA_SNIPPET % code)
    sources = [*(folder / "java").rglob("*.java"), *(DEVICE / "android" / "src").rglob("*.java")]
    done = subprocess.run(
        ["javac", "-d", folder / "classes", *sources], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def compile_c(code: str, folder: Path) -> None:
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{DEVICE}"]
    done = subprocess.run(
        ["cc", *flags, "-x", "c", "-"], input=code, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


COMPILERS = {"java": ("javac", compile_java), "c": ("cc", compile_c)}
