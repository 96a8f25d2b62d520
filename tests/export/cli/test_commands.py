"""The console command: what it writes and prints, and one line with exit code 2 for everything that
is wrong.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.export import small_model
from tfqreg.export import pack, unpack
from tfqreg.export.cli import main

COMMANDS = ["quantize", "check", "export", "pack", "unpack", "inspect", "verify", "report"]


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with every kind of file, good and bad."""
    folder = tmp_path_factory.mktemp("made")
    small_model.trained()[0].save(folder / "m.keras")
    small_model.float_model().save(folder / "float.keras")
    assert (
        main(
            [
                "export",
                f"{folder}/m.keras",
                "-o",
                f"{folder}/m.tflite",
                "--container",
                f"{folder}/m.tqw",
            ]
        )
        == 0
    )
    for name in ("m.keras", "m.tflite", "m.tqw"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "stub.tflite").write_bytes(b"\xff\xff\xff\x7fTFL3\xff")
    (folder / "text.txt").write_text("hello")
    (folder / "empty").touch()
    np.save(folder / "x.npy", small_model.data(300))
    np.savez(folder / "x.npz", image=small_model.data(5))
    np.savez(folder / "other.npz", picture=small_model.data(5))
    np.save(folder / "shape.npy", small_model.data(5)[..., 0])
    np.save(folder / "none.npy", small_model.data(5)[:0])
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(folder / "nan.npy", np.full((2, 8, 8, 1), np.nan, np.float32))
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:1000])
    (folder / "cut.npz").write_bytes((folder / "x.npz").read_bytes()[:1000])
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A fresh working folder, with the files of `made` linked into it."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    return code, *capsys.readouterr()


def refused(capsys, *argv: str) -> str:
    """Runs a command that must fail, and returns its one line; checks that it wrote nothing."""
    before = sorted(Path().iterdir())
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert out == ""
    assert err.startswith("tfqreg: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert sorted(Path().iterdir()) == before
    return err


def test_export_pack_and_unpack_agree(here, capsys):
    code, out, err = run(capsys, "export", "m.keras", "-o", "a.tflite", "--container", "a.tqw")
    assert (code, err) == (0, "")
    tflite = Path("a.tflite").read_bytes()
    assert out.splitlines()[0] == f"a.tflite: {len(tflite):,} bytes"
    assert unpack(Path("a.tqw").read_bytes()) == tflite
    assert run(capsys, "pack", "a.tflite", "-o", "b.tqw")[0] == 0
    assert Path("b.tqw").read_bytes() == Path("a.tqw").read_bytes() == pack(tflite)
    code, out, _ = run(capsys, "unpack", "b.tqw", "-o", "b.tflite")
    assert code == 0
    assert "times larger than b.tqw" in out
    assert Path("b.tflite").read_bytes() == tflite


def test_export_with_float_ends(here, capsys):
    assert run(capsys, "export", "m.keras", "-o", "f.tflite", "--float-io")[0] == 0
    assert len(Path("f.tflite").read_bytes()) > len(Path("m.tflite").read_bytes())
    assert run(capsys, "verify", "m.keras", "f.tflite", "--samples", "x.npz")[0] == 0


def test_existing_files_are_replaced(here, capsys):
    Path("a.tqw").write_text("old")
    assert run(capsys, "pack", "m.tflite", "-o", "a.tqw")[0] == 0
    assert Path("a.tqw").read_bytes() == Path("m.tqw").read_bytes()


@pytest.mark.parametrize("name", ["m.keras", "m.tflite", "m.tqw"])
def test_inspect(here, capsys, name):
    code, out, err = run(capsys, "inspect", name)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split()[0] == "kernel"
    assert [line.split()[0] for line in lines[1:5]] == [
        "conv/kernel",
        "hidden/kernel",
        "head/kernel",
        "total",
    ]
    assert f"{Path('m.tqw').stat().st_size:,}" in out
    code, out, err = run(capsys, "inspect", name, "--json")
    found = json.loads(out)
    assert found["tflite_bytes"] == Path("m.tflite").stat().st_size
    assert found["rows"][1]["bits"] == 3
    assert sum(found["parts"].values()) == found["container_bytes"]


def test_inspect_a_float_model(here, capsys):
    code, out, _ = run(capsys, "inspect", "float.keras")
    assert code == 0
    assert "Not quantized" in out


def test_verify_counts_every_sample_and_element(here, capsys):
    code, out, err = run(capsys, "verify", "m.keras", "m.tflite", "--samples", "x.npy")
    assert (code, err) == (0, "")
    assert "300 samples" in out
    # conv 6 x 6 x 8, flatten 288, hidden 32, head 4
    assert f"0 of {300 * (288 + 288 + 32 + 4)} elements differ" in out


def test_verify_finds_one_changed_weight(here, capsys):
    tflite = bytearray(Path("m.tflite").read_bytes())
    kernel = small_model.trained()[0].get_layer("head").encode()["kernel"][0].T.tobytes()
    place = bytes(tflite).index(kernel)
    tflite[place] = (tflite[place] + 90) % 256
    Path("changed.tflite").write_bytes(tflite)
    code, out, _ = run(capsys, "verify", "m.keras", "changed.tflite", "--samples", "x.npz")
    assert code == 1
    assert " 0 of" not in out.splitlines()[0]


def test_report_of_every_kind(here, capsys):
    _, history, figures = small_model.trained()
    Path("h.json").write_text(
        json.dumps({**history, "figures": figures, "result": {"keras_accuracy": 0.5}})
    )
    pictures = []
    for name in ("m.keras", "m.tflite", "m.tqw", "float.keras"):
        code, out, err = run(capsys, "report", name, "-o", "r.html", "--history", "h.json")
        assert (code, err) == (0, "")
        text = Path("r.html").read_text("utf-8")
        assert out == f"r.html: {len(text.encode()):,} bytes\n"
        assert "50.00%" in text
        pictures.append(text.count("<svg"))
    assert pictures == [10, 7, 7, 6]


BAD_FILES = [
    (
        "pack none.tflite -o a",
        "none.tflite: cannot be read: no such file or directory. Check the path.",
    ),
    ("pack . -o a", "cannot be read: is a directory"),
    (
        "pack text.txt -o a",
        "text.txt: this is no .tflite file. Give one. Received: 5 bytes starting b'hello'",
    ),
    ("pack empty -o a", "empty: this is no .tflite file"),
    ("pack m.tqw -o a", "m.tqw: this is no .tflite file. Give one. Received: a .tqw"),
    ("pack cut_m.tflite -o a", "cut_m.tflite: "),
    ("pack stub.tflite -o a", "stub.tflite: "),
    ("unpack m.tflite -o a", "m.tflite: this is no .tqw file. Give one. Received: a .tflite"),
    ("unpack cut_m.tqw -o a", "cut_m.tqw: "),
    ("unpack none.tqw -o a", "none.tqw: cannot be read"),
    ("inspect none", "none: cannot be read"),
    ("inspect text.txt", "this is no .keras or .tflite or .tqw file"),
    ("inspect cut_m.tqw", "cut_m.tqw: "),
    ("inspect cut_m.tflite", "cut_m.tflite: "),
    ("inspect cut_m.keras", "cut_m.keras: Keras cannot load it. Save the model again."),
    ("inspect x.npz", "x.npz: Keras cannot load it"),
    ("export none.keras -o a", "none.keras: cannot be read"),
    ("export m.tflite -o a", "m.tflite: this is no .keras file"),
    ("export cut_m.keras -o a", "cut_m.keras: Keras cannot load it"),
    (
        "export float.keras -o a",
        "float.keras: the model is not quantized. Wrap it with tfqreg.quantize(model)",
    ),
    ("report text.txt -o a", "text.txt: this is no "),
    ("report cut_m.tqw -o a", "cut_m.tqw: "),
    ("report m.tqw -o a --history none.json", "none.json: cannot be read"),
    ("report m.tqw -o a --history text.txt", "text.txt: this is no JSON"),
    ("verify float.keras m.tflite --samples x.npy", "float.keras: the model is not quantized"),
    ("verify m.keras cut_m.tflite --samples x.npy", "cut_m.tflite: "),
    ("verify m.keras m.tqw --samples x.npy", "m.tqw: this is no .tflite file"),
]


@pytest.mark.parametrize("line, message", BAD_FILES)
def test_bad_files(here, capsys, line, message):
    assert message in refused(capsys, *line.split())


@pytest.mark.parametrize(
    "name, message",
    [
        ("none.npy.missing", "cannot be read"),
        ("text.txt", "text.txt: it holds no samples. Save numbers"),
        ("cut.npy", "cut.npy: it holds no samples"),
        ("cut.npz", "cut.npz: it holds no samples"),
        ("objects.npy", "objects.npy: it holds no samples"),
        ("words.npy", "words.npy: it holds no samples"),
        ("none.npy", "none.npy: it holds no samples"),
        ("nan.npy", "m.tflite with nan.npy: image: samples hold NaN or infinity"),
        (
            "shape.npy",
            "m.tflite with shape.npy: image: samples must be numbers of shape (batch, 8, 8, 1)",
        ),
        ("other.npz", "m.tflite with other.npz: picture: the model has no such input"),
    ],
)
def test_bad_samples(here, capsys, name, message):
    assert message in refused(capsys, "verify", "m.keras", "m.tflite", "--samples", name)


def test_a_tflite_of_another_model(here, capsys):
    other = keras.Sequential(
        [keras.Input((8, 8, 1), name="image"), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    import tfqreg as tq

    tq.calibrate(tq.quantize(other), small_model.data(), verbose=0).save("other.keras")
    message = refused(capsys, "verify", "other.keras", "m.tflite", "--samples", "x.npy")
    assert message.startswith("tfqreg: m.tflite: this file is another model's")


def test_a_quantized_model_that_cannot_be_lowered(here, capsys):
    import tfqreg as tq

    tq.quantize(small_model.float_model()).save("raw.keras")
    assert "raw.keras: " in refused(capsys, "export", "raw.keras", "-o", "a")
    assert "tfqreg.calibrate" in refused(capsys, "inspect", "raw.keras")


SPECIAL = [
    "export {} -o a",
    "pack {} -o a",
    "pack m.tflite -o a --base {}",
    "unpack {} -o a",
    "inspect {}",
    "check {}",
    "verify {} m.tflite --samples x.npy",
    "verify m.keras {} --samples x.npy",
    "verify m.keras m.tflite --samples {}",
    "report {} -o a",
    "report m.tqw -o a --history {}",
]


@pytest.mark.parametrize("line", SPECIAL)
@pytest.mark.parametrize("special, kind", [("/dev/zero", "a device"), ("fifo", "a pipe")])
def test_what_may_never_end_is_not_read(here, capsys, line, special, kind):
    os.mkfifo("fifo")
    message = refused(capsys, *line.format(special).split())
    assert f"{special}: this is no regular file. " in message
    assert message.endswith(f"Received: {kind}\n")


def test_a_device_is_not_replaced(here, capsys):
    os.mkfifo("fifo")
    assert "fifo: cannot be written: it is a pipe" in refused(
        capsys, "pack", "m.tflite", "-o", "fifo"
    )


OUTPUTS = [
    ("pack", "m.tflite"),
    ("unpack", "m.tqw"),
    ("export", "m.keras"),
    ("report", "m.tqw"),
]


@pytest.mark.parametrize("command, source", OUTPUTS)
def test_bad_outputs(here, capsys, command, source):
    message = refused(capsys, command, source, "-o", "missing/a")
    assert "missing/a: cannot be written: there is no folder missing. Check the path." in message
    Path("folder").mkdir()
    assert "folder: cannot be written: it is a folder" in refused(
        capsys, command, source, "-o", "folder"
    )
    assert "must differ" in refused(capsys, command, source, "-o", source)


@pytest.mark.parametrize("command, source", OUTPUTS)
@pytest.mark.parametrize(
    "code, words", [(errno.ENOSPC, "no space left"), (errno.EACCES, "permission denied")]
)
def test_a_disk_that_refuses(here, capsys, monkeypatch, command, source, code, words):
    Path("a").write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    assert f"a: cannot be written: {words}" in refused(capsys, command, source, "-o", "a")
    assert Path("a").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(here, capsys):
    Path("locked").mkdir(mode=0o500)
    message = refused(capsys, "pack", "m.tflite", "-o", "locked/a")
    assert "locked/a: cannot be written: no permission" in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_takes_no_files(here, capsys):
    assert "cannot be written" in refused(capsys, "pack", "m.tflite", "-o", "/proc/a.tqw")


def test_one_target_for_two_files(here, capsys):
    assert "must differ" in refused(capsys, "export", "m.keras", "-o", "a", "--container", "a")


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "the following arguments are required: COMMAND. See tfqreg --help"),
        (["fly"], "invalid choice: 'fly'"),
        (
            ["pack", "m.tflite"],
            "the following arguments are required: -o/--output. See tfqreg pack --help",
        ),
        (["inspect", "m.tqw", "--yaml"], "unrecognized arguments: --yaml"),
    ],
)
def test_bad_command_lines(here, capsys, argv, message):
    assert message in refused(capsys, *argv)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"] if command else ["--help"])
    assert end.value.code == 0
    assert f"example: tfqreg {command or 'export'}" in capsys.readouterr().out


def test_an_interrupt_leaves_nothing(here, capsys, monkeypatch):
    def stop(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    before = sorted(Path().iterdir())
    assert run(capsys, "pack", "m.tflite", "-o", "a")[0] == 130
    assert sorted(Path().iterdir()) == before


def test_the_installed_command(here):
    command = Path(sys.executable).with_name("tfqreg")
    done = subprocess.run(
        [command, "pack", "m.tflite", "-o", "a.tqw"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("a.tqw: ")
    assert Path("a.tqw").read_bytes() == Path("m.tqw").read_bytes()
    done = subprocess.run(
        [command, "unpack", "text.txt", "-o", "b"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("tfqreg: text.txt: ")
    assert "Traceback" not in done.stderr
