"""The C decoder builds cleanly and small everywhere, and decodes alike on other processors."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.export.device.builds import (
    DEVICE,
    ROOT,
    STRICT,
    bad,
    build,
    checker,
    decode,
    good,
    run,
    tool,
)
from tests.export.device.test_decoder import base_of

MAX_TEXT_BYTES = 24 * 1024
SOURCES = [DEVICE / "tqw.c", DEVICE / "main.c", DEVICE / "unpack.c"]
FREESTANDING = [
    "aarch64-linux-android24",
    "armv7a-linux-androideabi24",
    "i386-linux-gnu",
    "riscv32-unknown-elf",
]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_no_warnings(compiler: str, level: str, tmp_path: Path) -> None:
    program = tool("clang-14", "clang") if compiler == "clang" else tool("gcc")
    for source in SOURCES:
        run(program, *STRICT, level, "-c", source, "-o", tmp_path / "object")


@pytest.mark.parametrize("target", FREESTANDING)
def test_freestanding(target: str, tmp_path: Path) -> None:
    clang = tool("clang-14", "clang")
    flags = [*STRICT, f"--target={target}", "-ffreestanding", "-Os"]
    run(clang, *flags, "-c", DEVICE / "tqw.c", "-o", tmp_path / "tqw.o")
    symbols = tool("llvm-nm", "llvm-nm-14")
    undefined = run(
        symbols, "--undefined-only", "--format=just-symbols", tmp_path / "tqw.o"
    ).split()
    # What compilers call by themselves; the names of their helpers for arithmetic and addresses
    # start with _.
    assert {name for name in undefined if not name.startswith("_")} <= {
        "memcpy",
        "memmove",
        "memset",
    }


@pytest.mark.parametrize("compiler", ["clang-14", "aarch64-linux-gnu-gcc"])
def test_text_fits_in_24_kb(compiler: str, tmp_path: Path) -> None:
    target = ["--target=aarch64-linux-android24", "-ffreestanding"] if "clang" in compiler else []
    run(
        tool(compiler), "-std=c99", "-Os", *target, "-c", DEVICE / "tqw.c", "-o", tmp_path / "tqw.o"
    )
    sizes = run(tool("llvm-size", "llvm-size-14", "size"), "-A", tmp_path / "tqw.o")
    assert (
        sum(int(size) for size in re.findall(r"^\.text\S*\s+(\d+)", sizes, re.M)) <= MAX_TEXT_BYTES
    )
    assert not any(int(size) for size in re.findall(r"^\.(?:data|bss)\s+(\d+)", sizes, re.M)), (
        "mutable statics"
    )


@pytest.mark.parametrize(
    ("compiler", "emulator"),
    [("aarch64-linux-gnu-gcc", "qemu-aarch64"), ("s390x-linux-gnu-gcc", "qemu-s390x")],
)
def test_other_processors(compiler: str, emulator: str) -> None:
    """64 bits, little and big endian, over all vectors."""
    runner, program = (tool(emulator),), checker("-O2", "-static", compiler=compiler)
    here = decode(checker("-O2"), [*good(), *bad()])
    assert decode(program, [*good(), *bad()], runner=runner) == here
    for path in good():
        expected = hashlib.sha256(path.with_suffix(".tflite").read_bytes()).hexdigest()
        if base_of(path):
            assert decode(program, [path], base_of(path), runner=runner) == {path: (0, expected)}


def test_32_bits() -> None:
    command = [tool("gcc"), "-m32", "-xc", "-", "-o", "/dev/null"]
    probe = subprocess.run(
        command, input="int main(void) { return 0; }", text=True, capture_output=True
    )
    if probe.returncode:
        pytest.skip(
            "gcc -m32 has no 32-bit C library here; test_freestanding compiles for three 32-bit "
            "processors"
        )
    assert decode(checker("-O2", "-m32"), [*good(), *bad()]) == decode(
        checker("-O2"), [*good(), *bad()]
    )


def test_scratch_may_have_any_alignment() -> None:
    source = """
#include <stdlib.h>
#include "tqw.h"
int main(void) {
    unsigned char *p = malloc(TQW_SCRATCH_BYTES + 8);
    tqw_file file;
    int error = 0;
    for (int i = 0; p && i < 8; i++)
        error |= tqw_open(&file, "", 0, 0, p + i, TQW_SCRATCH_BYTES) != TQW_NOT_TQW;
    error |= tqw_open(&file, "", 0, 0, p, TQW_SCRATCH_BYTES - 1) != TQW_BAD_ARGUMENT;
    free(p);
    return error;
}
"""
    main = build("-E", "-P", "-xc", "/dev/null").with_suffix(".c")
    main.write_text(source)
    run(
        build(
            "-g",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            main,
            DEVICE / "tqw.c",
        )
    )


def command() -> Path:
    return build("-O2", *SOURCES)


def test_command_unpacks(tmp_path: Path) -> None:
    for path in good():
        base = base_of(path)
        run(command(), "unpack", *(["--base", base] if base else []), path, tmp_path / "m.tflite")
        assert (tmp_path / "m.tflite").read_bytes() == path.with_suffix(".tflite").read_bytes()
        assert hashlib.sha256(path.with_suffix(".tflite").read_bytes()).hexdigest() in run(
            command(), "info", path
        )
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_command_leaves_nothing_of_a_bad_file(tmp_path: Path) -> None:
    for path in [*bad(), tmp_path / "absent.tqw"]:
        done = subprocess.run(
            [command(), "unpack", path, tmp_path / "m.tflite"], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"tqw: {path}: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_command_explains_itself() -> None:
    done = subprocess.run([command()], capture_output=True, text=True)
    assert done.returncode == 2 and "unpack [--base OLD.tflite]" in done.stderr


def test_cmake(tmp_path: Path) -> None:
    cmake = tool("cmake")
    run(cmake, "-S", DEVICE, "-B", tmp_path)
    run(cmake, "--build", tmp_path)
    assert "usage" in subprocess.run([tmp_path / "tqw"], capture_output=True, text=True).stderr


def test_readme_builds_and_runs(tmp_path: Path) -> None:
    """The README's one line for cc and its C example."""
    text = (DEVICE / "README.md").read_text()
    (line,) = re.findall(r"^cc .*$", text, re.M)
    subprocess.run(
        line.replace("-o tqw", f"-o {tmp_path / 'tqw'}"), shell=True, check=True, cwd=DEVICE
    )
    (example,) = re.findall(r"```c\n(.*?)```", text, re.S)
    (tmp_path / "example.c").write_text(example)
    run(
        tool("cc"),
        *STRICT,
        "-I",
        DEVICE,
        tmp_path / "example.c",
        DEVICE / "tqw.c",
        "-o",
        tmp_path / "example",
    )
    path = good()[0]
    done = subprocess.run(
        [tmp_path / "example"], input=path.read_bytes(), capture_output=True, check=True
    )
    assert done.stdout == path.with_suffix(".tflite").read_bytes()


def test_the_dictionary_is_that_of_the_format() -> None:
    from tfqreg.export.container.format.dictionary import DICTIONARY

    (numbers,) = re.findall(r"DICTIONARY\[1024\] = \{(.*?)\}", (DEVICE / "tqw.c").read_text(), re.S)
    assert bytes(map(int, re.findall(r"\d+", numbers))) == DICTIONARY


def test_sources_are_shipped() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["tfqreg.export"].split()
    shipped = {path for pattern in patterns for path in (ROOT / "export").glob(pattern)}
    there = {path for path in DEVICE.rglob("*") if path.is_file() and path.suffix != ".so"}
    assert there <= shipped
