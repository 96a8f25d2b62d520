"""What the distribution holds, held against the folders on disk."""

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

setup = configparser.ConfigParser()
setup.read(ROOT / "setup.cfg")


def folders(top: str, name: str) -> set[str]:
    """The packages below a folder, by the name they are imported under."""
    files = (ROOT / top).rglob("*.py")
    return {".".join([name, *path.parent.relative_to(ROOT / top).parts]) for path in files}


def test_every_package_on_disk_is_listed():
    listed = setup["options"]["packages"].split()
    assert set(listed) == folders("tfqreg", "tfqreg") | folders("export", "tfqreg.export")
    assert listed == sorted(listed)


def requirements(name: str) -> list[Requirement]:
    """What a list of setup.cfg asks for, of other packages."""
    options = setup["options"] if name == "install_requires" else setup["options.extras_require"]
    found = [Requirement(line) for line in options[name].splitlines() if line]
    return [requirement for requirement in found if requirement.name != "tfqreg"]


LISTS = ["install_requires", "dev", "report", "tensorboard", "tfmot", "vela"]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_versions_tested_together_are_in_the_ranges(python):
    def needed(requirement: Requirement) -> bool:
        here = {"python_version": python, "python_full_version": f"{python}.0"}
        return requirement.marker is None or requirement.marker.evaluate(here)

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = filter(needed, (Requirement(line) for line in lines if not line.startswith("#")))
    versions = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    for requirement in filter(needed, (found for name in LISTS for found in requirements(name))):
        assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_all_is_every_extra_but_two():
    extras = set(setup["options.extras_require"])
    (everything,) = setup["options.extras_require"]["all"].split()
    assert Requirement(everything).extras == extras - {"all", "dev", "docs", "tflite-runtime"}
