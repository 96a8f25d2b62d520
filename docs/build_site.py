"""Builds the site into build/site, strictly: `make docs`.

The pages are those of `docs/`, the notebooks, and the texts that live elsewhere in the repository.
They are written to build/docs first, with formulas as MathML, so that a reader's browser loads
nothing from another host, and so that any generator that reads mkdocs.yml can build them.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
PAGES, SOURCES, SITE = (ROOT / "build" / name for name in ("docs", "docs_sources", "site"))
# What is a page of the site and a file of the repository at once.
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "container.md": "export/container/SPEC.md",
    "device.md": "export/device/README.md",
}
CODE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
_INLINE_FORMULA = re.compile(r"\$`(.+?)`\$")
_INDEXED = re.compile(r"(`[^`\n]*`)|\]\[")
_HIDDEN = re.compile(r"<!-- (?:run|not run|repository|/repository)\b.*?-->\n?", re.DOTALL)
_FOR_THE_REPOSITORY = re.compile(r"<!-- repository -->\n.*?<!-- /repository -->\n", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
_BADGE = re.compile(r"\[?!\[[^\]]*\]\([^)]*colab-badge[^)]*\)(?:\]\([^)]*\))?\n*")
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\ssrc=\"?https?:[^>]*>"
    r"|<link\b[^>]*\srel=\"?(?:stylesheet|preconnect)\b[^>]*https?:[^>]*>"
    r"|@import\s+(?:url\()?[\"']?https?:[^;]*;"
)


def address() -> str:
    """Returns the repository's public address, empty until there is one."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())["extra"]["repository"]


def page(text: str, repository: str) -> str:
    """Returns a page as the generator takes it: formulas rendered, hidden parts left out.

    Args:
        text: Markdown. A fence of the language `math` is a formula on its own, dollars around a
            code span are one within a line.
        repository: its public address; what stands between `<!-- repository -->` and
            `<!-- /repository -->` is kept if there is one, with it in the place of ADDRESS.
    """
    if not repository:
        text = _FOR_THE_REPOSITORY.sub("", text)
    parts, end = [], 0
    text = _HIDDEN.sub("", text.replace("ADDRESS", repository))
    for fence in CODE.finditer(text):
        parts.append(_prose(text[end : fence.start()]))
        parts.append(_display(fence[3]) if fence[2] == "math" else fence[0])
        end = fence.end()
    return "".join([*parts, _prose(text[end:])])


def _prose(text: str) -> str:
    """Renders the formulas within a text; `a[i][j]` outside of code is no link by reference."""
    text = _INLINE_FORMULA.sub(lambda found: convert(found[1]), text)
    return _INDEXED.sub(lambda found: found[1] or r"]\[", text)


def _display(latex: str) -> str:
    return f'<div class="formula">{convert(latex.strip(), display="block")}</div>'


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook's text, code and stored outputs as Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_BADGE.sub("", source))
            continue
        parts.append(_fenced(source, "python"))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", ""))).strip()
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif text:
                parts.append(_fenced(_COLOURS.sub("", text), "text"))
    return "\n\n".join(parts), pictures


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def relinked(text: str, source: str, name: str, repository: str) -> str:
    """Returns a text with its links as seen from its page.

    A link to a file that is no page becomes one to the repository, or plain text if that has no
    address yet.

    Args:
        text: Markdown.
        source: the file it comes from, from the root of the repository.
        name: of the page.
        repository: its public address.

    Raises:
        ValueError: for a link to a file that is not there.
    """
    pages = {(ROOT / file).resolve(): page for page, file in ELSEWHERE.items()}
    docs, folder = ROOT / "docs", os.path.dirname(name)

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], (ROOT / source).parent / found[2], found[3] or ""
        target = Path(os.path.normpath(target))
        if target in pages:
            return f"[{words}]({os.path.relpath(pages[target], folder or '.')}{anchor})"
        if target.is_relative_to(docs):
            return f"[{words}]({os.path.relpath(target.relative_to(docs), folder or '.')}{anchor})"
        if not target.exists():
            raise ValueError(f"{source}: links to {found[2]}, which is not there.")
        where = f"{repository}/blob/main/{target.relative_to(ROOT)}"
        return f"[{words}]({where})" if repository else words

    return _LINK.sub(link, text)


def write_pages() -> None:
    """Writes build/docs anew."""
    repository = address()
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(
        ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.md", "*.py", "__pycache__")
    )
    own = {str(path.relative_to(ROOT / "docs")): path for path in (ROOT / "docs").rglob("*.md")}
    for name, path in {**own, **{name: ROOT / file for name, file in ELSEWHERE.items()}}.items():
        text = relinked(path.read_text(), str(path.relative_to(ROOT)), name, repository)
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(page(text, repository))
    (PAGES / "notebooks").mkdir(exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_page(path)
        (PAGES / "notebooks" / f"{path.stem}.md").write_text(page(text, repository))
        for name, data in pictures.items():
            (PAGES / "notebooks" / name).write_bytes(data)


def write_sources() -> None:
    """Lays out the sources by their import names, for the generator that reads their docstrings.

    `Example:` is the house's heading for what Google's style calls `Examples:`.
    """
    shutil.rmtree(SOURCES, ignore_errors=True)
    for folder, package in (("tfqreg", "tfqreg"), ("export", "tfqreg/export")):
        for path in sorted((ROOT / folder).rglob("*.py*")):
            if path.suffix in (".py", ".pyi"):
                target = SOURCES / package / path.relative_to(ROOT / folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_EXAMPLE.sub(r"\1Examples:", path.read_text()))


def loaded_from_elsewhere() -> Iterator[str]:
    """Yields what a page of the built site would load from another host."""
    for path in sorted([*SITE.rglob("*.html"), *SITE.rglob("*.css")]):
        for found in _LOADED.finditer(path.read_text()):
            yield f"{path.relative_to(SITE)}: {found[0][:200]}"


def main() -> int:
    """Builds the site; returns 1 if the generator warns or a page loads from elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", action="store_true", help="write build/docs and stop there")
    arguments = parser.parse_args()
    write_pages()
    write_sources()
    if arguments.pages:
        return 0
    shutil.rmtree(SITE, ignore_errors=True)
    command = [Path(sys.executable).parent / "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT)
    if built.returncode:
        return 1
    found = list(loaded_from_elsewhere())
    for line in found:
        print(f"Loads from elsewhere: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
