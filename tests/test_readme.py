"""The README is short, and shows what is there; its blocks run in test_docs.py."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def write_address():
    """The script docs/write_address.py as a module."""
    spec = importlib.util.spec_from_file_location("write_address", ROOT / "docs/write_address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_short():
    assert len(README.splitlines()) <= 120
    assert len(README.split()) <= 900


def test_every_file_it_names_is_there():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(targets) > 10
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_public_address_has_one_setting():
    script = write_address()
    assert script.with_badges(README, script.address()) == README
    citation = ROOT / "CITATION.cff"
    if citation.exists():
        assert script.with_citation(citation.read_text(), script.address()) == citation.read_text()


@pytest.mark.parametrize("repository", ["", "https://example.org/owner/name"])
def test_badges_and_citation_show_an_address_only_if_there_is_one(repository):
    script = write_address()
    readme = script.with_badges(README, repository)
    citation = script.with_citation("title: tfqreg\n", repository)
    assert (repository in readme and repository in citation) and (
        ("badge.svg" in readme) == ("repository-code" in citation) == bool(repository)
    )
    assert script.with_badges(readme, "") == script.with_badges(README, "")
    assert script.with_citation(citation, "") == "title: tfqreg\n"
