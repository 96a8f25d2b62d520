"""ARM's runtimes on a machine of another kind: where they are installed, and the command for them.

qemu runs an ARM Python with LiteRT, whose XNNPACK then takes the kernels that phones take. The
folder that holds all of it is made by `python -m tfqreg.export.verification.arm_setup`.
"""

import os
from pathlib import Path

# The oldest of the common cores with the dot product, on which XNNPACK's int8 kernels rest.
PROCESSOR = "cortex-a76"
# One core a generation of int8 kernels: none of them, dot product, matrix product without and with
# SVE.
PROCESSORS = ("cortex-a53", "cortex-a76", "max,sve=off", "max")
_ARCHITECTURES = ("aarch64", "armv7l")
# 32-bit ARM with NEON, as armv7l means it.
_PROCESSOR_32 = "cortex-a15"


def folder() -> Path:
    """Returns where the ARM runtimes are: `$TFQREG_ARM`, or `tfqreg/arm` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TFQREG_ARM") or Path(cache, "tfqreg", "arm"))


def is_arm(runtime: str) -> bool:
    """Returns whether qemu has to run a runtime."""
    return _architecture(runtime) is not None


def missing(runtime: str) -> str | None:
    """Why an ARM runtime cannot run here, or None when it can."""
    done = _site(runtime) / "complete"
    if done.exists():
        return None
    return (
        f"{folder()} holds no {runtime.partition('@')[0]}. "
        "Make it with python -m tfqreg.export.verification.arm_setup"
    )


def python(runtime: str) -> tuple[list[str], str]:
    """Returns the command of an ARM runtime's Python, and the interpreter's name there."""
    name, _, processor = runtime.partition("@")
    architecture = _architecture(runtime)
    assert architecture is not None
    root, site = folder() / architecture / "root", _site(runtime)
    default = PROCESSOR if architecture == "aarch64" else _PROCESSOR_32
    paths = os.pathsep.join(map(str, (site, site.parent / "numpy")))
    qemu = folder() / "qemu" / ("qemu-aarch64" if architecture == "aarch64" else "qemu-arm")
    command = [str(qemu), "-cpu", processor or default, "-L", str(root)]
    # Debian's numpy for 32 bits finds its linear algebra by these folders.
    libraries = root / "usr/lib/arm-linux-gnueabihf"
    search = os.pathsep.join(str(libraries / part) for part in ("blas", "lapack"))
    # One thread: a second one brings nothing under qemu, whose atomics are slow.
    command += ["-E", f"PYTHONPATH={paths}", "-E", f"LD_LIBRARY_PATH={search}"]
    command += ["-E", "OPENBLAS_NUM_THREADS=1"]
    return [*command, str(root / "usr/bin/python3.11"), "-P"], name.replace(f"-{architecture}", "")


def _architecture(runtime: str) -> str | None:
    name = runtime.partition("@")[0]
    return next((a for a in _ARCHITECTURES if f"-{a}" in name), None)


def _site(runtime: str) -> Path:
    architecture = _architecture(runtime) or ""
    return folder() / architecture / runtime.partition(f"-{architecture}")[0]
