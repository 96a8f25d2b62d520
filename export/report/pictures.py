"""The report's pictures: matplotlib figures as SVG in a page's own font and text colour.

Needs the extra `tfqreg[report]`, and says so when it is imported.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .summary import Row

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
except ImportError as error:
    raise ImportError(
        "report: pictures need matplotlib. Install it with pip install 'tfqreg[report]'."
    ) from error

BLUE, AMBER, GREEN, GREY = "#3b82f6", "#f59e0b", "#10b981", "#94a3b8"
_TEXT = "#808182"  # stands for the page's text colour, which matplotlib cannot name
_MANY_LEVELS = 40  # more lines than that would hide the bars; the page names this number
_BINS = 200  # bars across the picture, about
_FEW_NAMES = 30  # beyond, slanted names of tensors overlap
MANY_KERNELS = 8  # as many as `_colours` names; more lines get shades and no legend
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tfqreg",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "legend.labelcolor": _TEXT,
}


def curves(
    series: Mapping[str, Sequence[float | None]], ylabel: str, logarithmic: bool = False
) -> str:
    """Returns the picture of one line per series over epochs, counted from 1; None leaves a gap.

    Args:
        series: values by name, drawn in that order; more than eight get no legend, and colours from
            dark, the first, to bright. A series of nothing but None is left out, its colour with
            it.
        ylabel: what the values are, with their unit.
        logarithmic: whether the y axis is.
    """
    with _axes(ylabel, "epoch") as (figure, axes):
        many = len(series) > MANY_KERNELS
        shown = []
        for (name, values), colour in zip(series.items(), _colours(len(series)), strict=True):
            y = np.array([np.nan if value is None else value for value in values], float)
            if not np.isnan(y).all():
                width, marker = 1.2 if many else 1.8, "o" if len(y) == 1 else ""
                axes.plot(np.arange(1, len(y) + 1), y, marker=marker, lw=width, c=colour)
                shown.append(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if logarithmic:
            axes.set_yscale("log")
            _plain_numbers(axes.yaxis, *axes.get_ylim())
        if not many:
            _legend(axes, shown)
        return _svg(figure)


def ratios(names: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """Returns the picture of signal-to-noise ratios along a graph.

    Args:
        names: of the tensors, in their order; named in the picture if they are few.
        series: ratios in decibels by name of the series; None leaves a gap.
    """
    with _axes("SNR, dB", "" if len(names) <= _FEW_NAMES else "tensor") as (figure, axes):
        for (name, values), colour in zip(series.items(), (BLUE, AMBER), strict=True):
            y = np.array([np.nan if value is None else value for value in values], float)
            axes.plot(np.arange(len(y)), y, "o-", ms=3, lw=1.2, c=colour, label=name)
        if len(names) <= _FEW_NAMES:
            axes.set_xticks(np.arange(len(names)), names, rotation=60, ha="right")
        _legend(axes, list(series))
        return _svg(figure)


def histogram(
    levels_apart: np.ndarray, codes: np.ndarray, pruned: np.ndarray, sine_period: int = 0
) -> str:
    """Returns the picture of a kernel's float weights against its grid.

    Pruned weights have a bar of their own.

    Args:
        levels_apart: float weights in units of their scale, so that every channel's levels are
            whole numbers.
        codes: the level of each weight.
        pruned: boolean, the weights the mask holds at 0.
        sine_period: of the penalty sin^2 to draw behind the bars, zero at the levels; none by
            default.
    """
    alive, levels = levels_apart[~pruned], np.unique(codes[~pruned])
    with _axes("weights", "weight / scale") as (figure, axes):
        reach = (
            max(float(np.abs(alive).max(initial=1.0)), float(np.abs(levels).max(initial=1))) + 0.5
        )
        # An odd number of bins per unit: weights on a level stand in the middle of one.
        per_unit = 1 + 2 * int(min(_BINS / (4 * reach), 5))
        bins = (np.arange(-int(reach * per_unit) - 1, int(reach * per_unit) + 3) - 0.5) / per_unit
        axes.stairs(*np.histogram(alive, bins), fill=True, color=BLUE)
        if len(levels) <= _MANY_LEVELS:
            lines = axes.get_xaxis_transform()
            axes.vlines(levels, 0, 1, transform=lines, color=AMBER, lw=1.2, alpha=0.7, zorder=0.5)
        if sine_period and reach <= _MANY_LEVELS * sine_period / 2:
            x = np.linspace(-reach, reach, 1200)
            sine = np.sin(np.pi * (x - levels[0]) / sine_period) ** 2
            axes.plot(
                x, 0.98 * sine, transform=axes.get_xaxis_transform(), color=GREEN, lw=1, alpha=0.8
            )
        axes.grid(axis="x", visible=False)
        axes.set_xlim(-reach, reach)
        if pruned.any():
            _pruned_bar(figure, int(pruned.sum()), pruned.size)
        return _svg(figure)


def byte_bars(rows: Sequence[Row]) -> str:
    """Returns the picture of raw, entropy and coded bytes of each kernel, in their order."""
    names = [row.name for row in rows]
    sizes = {
        "raw": ([row.raw_bytes for row in rows], GREY),
        "entropy": ([row.entropy_bytes or 0 for row in rows], AMBER),
        "coded": ([row.coded_bytes or 0 for row in rows], BLUE),
    }
    with _axes("", "bytes, logarithmic", height=1.2 + 0.55 * len(rows), width=7.5) as (
        figure,
        axes,
    ):
        for place, (values, colour) in enumerate(sizes.values()):
            y = np.arange(len(rows)) + (place - 1) * 0.27
            axes.barh(y, values, 0.25, color=colour)
            for value, height in zip(values, y, strict=True):
                if value:
                    axes.annotate(
                        f"{value:,.0f}",
                        (value, height),
                        (3, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=7.5,
                    )
        axes.set_xscale("log")
        axes.set_xlim(10, 4 * max(max(values) for values, _ in sizes.values()))
        _plain_numbers(axes.xaxis, *axes.get_xlim())
        axes.set_yticks(
            range(len(rows)), [name if len(name) < 30 else f"...{name[-27:]}" for name in names]
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        handles = [Patch(color=colour) for _, colour in sizes.values()]
        figure.legend(handles, list(sizes), loc="outside upper center", ncols=3, fontsize=9)
        return _svg(figure)


@contextmanager
def _axes(
    ylabel: str, xlabel: str, height: float = 3.0, width: float = 4.8
) -> Iterator[tuple[Figure, Axes]]:
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure((width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        yield figure, axes


def _pruned_bar(figure: Figure, pruned: int, weights: int) -> None:
    figure.axes[0].set_title(
        f"{pruned:,} of {weights:,} pruned to 0, not drawn below", fontsize=9, loc="left", pad=14
    )
    bar = figure.axes[0].inset_axes((0, 1.02, 1, 0.04))
    bar.barh(0, pruned, color=GREY)
    bar.barh(0, weights - pruned, left=pruned, color=BLUE)
    bar.set_xlim(0, weights)
    bar.set_axis_off()


def _plain_numbers(axis: Axis, low: float, high: float) -> None:
    """Labels a logarithmic axis without powers, which would need matplotlib's own fonts."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_locator(NullLocator())


def _colours(count: int) -> list[str]:
    if count <= MANY_KERNELS:
        return [BLUE, AMBER, GREEN, "#ef4444", "#8b5cf6", "#14b8a6", "#ec4899", "#84cc16"][:count]
    colormap = matplotlib.colormaps["plasma"]
    return [to_hex(colormap(0.15 + 0.75 * i / (count - 1))) for i in range(count)]


def _legend(axes: Axes, names: Sequence[str]) -> None:
    # A leading underscore would hide the entry.
    axes.legend(axes.lines, [f"\u200b{name}" for name in names], fontsize=9)


def _svg(figure: Figure) -> str:
    """Returns the figure as an <svg> element in the page's font and text colour.

    No address is left in it.
    """
    stream = io.StringIO()
    empty: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        # Text stays text: the page's font draws it, whatever glyphs matplotlib's own may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(stream, format="svg", transparent=True, metadata=empty)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT, "currentColor")
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[^"]*_[^"]*"|font-family: [^;]*; ', "", svg)
    # What is left are ids of shapes drawn several times; two pictures in one page must not share
    # them.
    svg = re.sub(r'(id="|#)([a-z][0-9a-f]{10})\b', rf"\1\2-{zlib.crc32(svg.encode()):08x}", svg)
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
