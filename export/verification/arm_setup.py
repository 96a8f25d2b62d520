"""Installs ARM's runtimes for `verify` on Linux, x86-64: `python -m
tfqreg.export.verification.arm_setup`.

Debian's packages give an ARM Python and qemu, the Python package index the interpreters. Nothing is
installed on the machine itself, and no root is needed; some 120 MB are downloaded.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from . import arm

# The newest release of Debian whose Python (3.11) tflite-runtime has wheels for.
_SUITE = "bookworm"
_MIRROR = "https://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# qemu 7.2, the suite's own, dies of LiteRT from 2.2.0 on.
_QEMU = "qemu-user", f"{_SUITE}-backports"
_LIBRARIES = ("libc6", "libstdc++6", "libgcc-s1", "libffi8", "libuuid1", "zlib1g", "libbz2-1.0")
_PYTHON = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libexpat1", "libssl3", "liblzma5", *_LIBRARIES),
)
# numpy has no wheels for 32-bit ARM.
_NUMPY_32 = ("python3-numpy", "python3-pkg-resources", "libblas3", "liblapack3", "libgfortran5")
_NUMPY = "numpy==1.26.4"  # the last that tflite-runtime takes
_LITERT = (
    "ai-edge-litert==2.3.0",
    "flatbuffers==25.12.19",
    "tqdm==4.70.1",
    "typing-extensions==4.16.0",
    "backports.strenum==1.2.8",
    "protobuf==7.36.2",
)
_TFLITE_RUNTIME = ("tflite-runtime==2.14.0",)
# What wheels for either processor call their platform, newest first.
_PLATFORMS = {
    "aarch64": ("manylinux_2_34", "manylinux_2_27", "manylinux2014", "manylinux_2_17"),
    "armv7l": ("manylinux_2_34",),
}


def install(target: Path) -> None:
    """Makes what is missing of the ARM runtimes in a folder.

    Raises:
        RuntimeError: if a tool is missing here, or fails.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is not installed; the ARM runtimes need Debian or Ubuntu")
    if not _KEYRING.exists():
        raise RuntimeError(
            f"{_KEYRING} is missing; install it with apt-get install debian-archive-keyring"
        )
    aarch64, armv7l = target / "aarch64", target / "armv7l"
    steps: dict[str, Callable[[], None]] = {
        "qemu": lambda: _qemu(target),
        "Python for aarch64": lambda: _unpack_debian(target, "arm64", _PYTHON, aarch64 / "root"),
        "numpy": lambda: _wheels("aarch64", [_NUMPY], aarch64 / "numpy"),
        "LiteRT": lambda: _wheels("aarch64", _LITERT, aarch64 / "litert"),
        "tflite-runtime": lambda: _wheels("aarch64", _TFLITE_RUNTIME, aarch64 / "tflite-runtime"),
        "Python for armv7l": lambda: _unpack_debian(
            target, "armhf", [*_PYTHON, *_NUMPY_32], armv7l / "root"
        ),
        "tflite-runtime for armv7l": lambda: _wheels(
            "armv7l", _TFLITE_RUNTIME, armv7l / "tflite-runtime"
        ),
    }
    progress = tqdm(steps.items(), "ARM runtimes", unit="part", disable=not sys.stderr.isatty())
    for name, step in progress:
        progress.set_postfix_str(name)
        step()


def _qemu(target: Path) -> None:
    done = target / "qemu" / "complete"
    if done.exists():
        return
    package, suite = _QEMU
    (found,) = _download(target, "amd64", [package], suite)
    whole = target / "qemu-whole"
    _run(["dpkg-deb", "-x", found, whole])
    done.parent.mkdir(parents=True, exist_ok=True)
    for name in ("qemu-aarch64", "qemu-arm"):
        shutil.copy(whole / "usr/bin" / name, done.parent / name)
    shutil.rmtree(whole)  # qemu for thirty other processors
    shutil.rmtree(target / "apt-amd64")
    done.touch()


def _unpack_debian(target: Path, architecture: str, packages: Sequence[str], root: Path) -> None:
    done = root / "complete"
    if done.exists():
        return
    root.mkdir(parents=True, exist_ok=True)
    for package in _download(target, architecture, packages, _SUITE):
        _run(["dpkg-deb", "-x", package, root])
    shutil.rmtree(target / f"apt-{architecture}")
    done.touch()


def _download(target: Path, architecture: str, packages: Sequence[str], suite: str) -> list[Path]:
    """Returns packages of Debian, which apt has checked against its key."""
    state = target / f"apt-{architecture}"
    for part in ("lists/partial", "archives/partial", "etc"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "etc/sources.list").write_text(
        f"deb [signed-by={_KEYRING}] {_MIRROR} {suite} main\n", "utf-8"
    )
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
        # Where there is no network the answer comes soon.
        "Acquire::Retries": "0",
        "Acquire::https::Timeout": "20",
        "Dir::Etc::SourceList": state / "etc/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": state / "lists",
        "Dir::State::Status": state / "status",
        "Dir::Cache": state,
    }
    command = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
    _run([*command, "update"], state)
    _run([*command, "download", *packages], state)
    return sorted(state.glob("*.deb"))


def _wheels(architecture: str, requirements: Sequence[str], site: Path) -> None:
    done = site / "complete"
    if done.exists():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    for platform in _PLATFORMS[architecture]:
        command += ["--platform", f"{platform}_{architecture}"]
    command += ["--python-version", "3.11", "--only-binary=:all:", "--upgrade"]
    _run([*command, *requirements])
    done.touch()


def _run(command: Sequence[str | Path], where: Path | None = None) -> None:
    process = subprocess.run(
        list(map(str, command)), cwd=where, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {process.stderr.strip()[-1000:]}")


def main() -> None:
    """Makes the ARM runtimes, or says in one line why they cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m tfqreg.export.verification.arm_setup",
        description="Installs ARM's runtimes for `tfqreg verify --runtimes litert-aarch64`.",
        epilog="example: python -m tfqreg.export.verification.arm_setup",
    )
    parser.add_argument("--folder", type=Path, default=arm.folder(), help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        install(arguments.folder)
    except (RuntimeError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
