"""The report's page: a title, sections, and a style for light and dark, wide and narrow."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root {
  color-scheme: light dark;
  --text: #1e293b; --soft: #64748b; --back: #f8fafc; --card: #fff; --line: #e2e8f0;
}
@media (prefers-color-scheme: dark) {
  :root { --text: #e2e8f0; --soft: #94a3b8; --back: #0b1120; --card: #151e2f; --line: #2a364a; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; color: var(--text);
  background: var(--back); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
header p { color: var(--soft); margin: .2rem 0 1.5rem; }
.tile, figure, .wide, ul, dl {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }
.tile { padding: .7rem .9rem; display: flex; flex-direction: column; }
.tile span, .tile small, figcaption, dt {
  color: var(--soft); font-size: .84rem; line-height: 1.35;
}
.tile b { font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin-bottom: .75rem; }
.wide.fit { width: fit-content; max-width: 100%; }
table {
  border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums;
}
th, td { padding: .4rem .45rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
td { border-top: 1px solid var(--line); }
tfoot td { font-weight: 700; }
:is(th, td):first-child, .kernels :is(th, td):nth-child(-n+3) { text-align: left; }
.pictures {
  display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr));
}
figure { margin: 0; padding: .8rem; overflow-x: auto; }
figure.broad { grid-column: 1 / -1; }
figure.broad svg { min-width: 30rem; max-width: 48rem; }
figcaption { overflow-wrap: anywhere; padding-bottom: .4rem; }
svg { display: block; width: 100%; height: auto; }
ul { margin: 0; padding: .9rem 1rem .9rem 2.2rem; }
li { overflow-wrap: anywhere; }
li + li { margin-top: .5rem; }
dl {
  display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem;
  margin: 0; padding: .9rem 1rem;
}
dd { margin: 0; font-size: .88rem; overflow-wrap: anywhere; }
"""


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Returns a whole HTML page.

    Args:
        title: plain text, of the page.
        sections: plain heading, left out if it is empty, and HTML of each part.
    """
    headings = (f"<h2>{escape(heading)}</h2>" if heading else "" for heading, _ in sections)
    parts = (
        f"<section>{heading}{body}</section>\n"
        for heading, (_, body) in zip(headings, sections, strict=True)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1><p>tfqreg report</p></header>\n"
        f"{''.join(parts)}\n</body></html>\n"
    )
