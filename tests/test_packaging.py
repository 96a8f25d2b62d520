"""What the distribution holds, held against the folders on disk."""

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def folders(top: str, name: str) -> set[str]:
    """The packages below a folder, by the name they are imported under."""
    files = (ROOT / top).rglob("*.py")
    return {".".join([name, *path.parent.relative_to(ROOT / top).parts]) for path in files}


def test_every_package_on_disk_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    assert set(listed) == folders("tfqreg", "tfqreg") | folders("export", "tfqreg.export")
    assert listed == sorted(listed)
