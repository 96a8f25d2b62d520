"""Writes the repository's public address, `extra.repository` of mkdocs.yml, wherever it is shown:
`python docs/write_address.py`.

That is the badges of README.md and `repository-code` of CITATION.cff. An empty address removes
them. The site takes it from mkdocs.yml by itself.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BADGES = re.compile(r"(<!-- badges: [^\n]*-->\n).*?(<!-- /badges -->)", re.DOTALL)
_CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)


def address() -> str:
    """Returns the repository's public address, empty until there is one."""
    found = re.search(r'^  repository: "(.*)"$', (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError('mkdocs.yml: extra.repository is missing. Write `repository: ""`.')
    return found[1].rstrip("/")


def with_badges(readme: str, repository: str) -> str:
    """Returns the README with its badges, none if there is no address."""
    tests = f"{repository}/actions/workflows/ci.yml"
    badge = f"[![Tests]({tests}/badge.svg)]({tests})\n" if repository else ""
    return _BADGES.sub(lambda found: f"{found[1]}{badge}{found[2]}", readme)


def with_citation(citation: str, repository: str) -> str:
    """Returns CITATION.cff with the address, or without."""
    line = f'repository-code: "{repository}"\n' if repository else ""
    return _CITED.sub("", citation).rstrip("\n") + "\n" + line


def main() -> None:
    """Rewrites what shows the address."""
    for name, write in (("README.md", with_badges), ("CITATION.cff", with_citation)):
        path = ROOT / name
        if path.exists():
            path.write_text(write(path.read_text(), address()))


if __name__ == "__main__":
    main()
