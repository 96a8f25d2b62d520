"""A short run of the fuzz target; `make fuzz` runs it for longer."""

import shutil
from pathlib import Path

import pytest

from tests.export.device.builds import DEVICE, SANITIZE, TESTS, bad, build, good, run, tool

SECONDS = 10
IGNORE = "-DTQW_IGNORE_CHECKSUMS"


def test_replay_of_the_vectors() -> None:
    replay = build(*SANITIZE, IGNORE, "-DREPLAY", TESTS / "fuzz.c", DEVICE / "tqw.c")
    files = [*good(), *bad()]
    assert run(replay, *files) == f"{len(files)} files\n"


@pytest.mark.long
def test_no_crash_in_ten_seconds(tmp_path: Path) -> None:
    clang = tool("clang-14", "clang")
    flags = [
        "-g",
        "-O2",
        "-fsanitize=fuzzer,address,undefined",
        "-fno-sanitize-recover=all",
        IGNORE,
    ]
    fuzzer = build(*flags, TESTS / "fuzz.c", DEVICE / "tqw.c", compiler=Path(clang).name)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for path in good():
        shutil.copy(path, corpus)
    options = [
        "-max_len=16384",
        f"-max_total_time={SECONDS}",
        "-verbosity=0",
        f"-artifact_prefix={tmp_path}/",
    ]
    run(fuzzer, *options, corpus)
