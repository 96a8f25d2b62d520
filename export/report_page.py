"""The report's page: a title, sections, and a style for light and dark, wide and narrow."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #1e293b; --soft: #64748b; --back: #f8fafc; --card: #fff; --line: #e2e8f0;
  --accent: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e2e8f0; --soft: #94a3b8; --back: #0b1120; --card: #151e2f; --line: #2a364a; --accent: #60a5fa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; color: var(--text); background: var(--back);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
header p { color: var(--soft); margin: .2rem 0 1.5rem; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tile, figure, .wide, ul, dl { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.tile { padding: .7rem .9rem; display: flex; flex-direction: column; }
.tile span, .tile small, figcaption, dt { color: var(--soft); font-size: .84rem; }
.tile b { font-size: 1.45rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin-bottom: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
table.narrow { width: auto; min-width: 24rem; }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
td { border-top: 1px solid var(--line); }
tfoot td { font-weight: 700; }
th:first-child, td:first-child, table:not(.narrow) :is(th, td):nth-child(-n+3) { text-align: left; }
.pictures { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figure { margin: 0; padding: .8rem; max-width: 36rem; overflow-x: auto; }
figure.broad { grid-column: 1 / -1; max-width: none; }
figure.broad svg { min-width: 30rem; max-width: 48rem; }
figcaption { overflow-wrap: anywhere; padding-bottom: .4rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
ul { margin: 0; padding: .9rem 1rem .9rem 2.2rem; } li + li { margin-top: .5rem; } li { overflow-wrap: anywhere; }
li:first-child { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 0; padding: .9rem 1rem; }
dd { margin: 0; font-size: .88rem; overflow-wrap: anywhere; }
"""


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Returns a whole HTML page.

    Args:
        title: plain text, of the page.
        sections: plain heading, left out where it is empty, and HTML of each part.
    """
    parts = (
        f"<section>{f'<h2>{escape(heading)}</h2>' if heading else ''}{body}</section>"
        for heading, body in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1><p>tfqreg report</p></header>\n"
        f"{'\n'.join(parts)}\n</body></html>\n"
    )
