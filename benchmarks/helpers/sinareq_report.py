"""Summary and picture of the cells that `benchmarks.sinareq` has measured."""

import itertools
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from .record import Cells

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "learned_bits.png"
PRESET = re.compile(
    r"(.*), activations (.*), (DoReFa|WRPN) (\d) bits, (with|without) SinReQ, seed (\d)"
)
LEARNED = re.compile(r"(.*), (all|faithful, average|loss-aware, average) ([\d.]+) bits, seed \d")
LABELS = {
    "all": "one width in all layers",
    "faithful": "learned, faithful",
    "loss-aware": "learned, loss-aware",
}
# Network, activations, quantizer, bits.
Grid = tuple[str, str, str, int]


def report(cells: Cells) -> None:
    """Writes "summary" into the benchmark's JSON, prints it, and draws the picture."""
    gains, points = preset_gains(cells.values), learned_points(cells.values)
    summary = {
        "preset": preset_summary(gains),
        "average_gain_points": averages(gains),
        "learned": points,
    }
    whole = json.loads(cells.path.read_text())
    head = {key: value for key, value in whole.items() if key not in ("cells", "summary")}
    cells.path.write_text(
        json.dumps({**head, "summary": summary, "cells": cells.values}, indent=2) + "\n"
    )
    print(json.dumps(summary, indent=2))
    draw(points)


def preset_gains(cells: dict[str, Any]) -> dict[Grid, dict[str, list[float]]]:
    """Returns accuracies without and with SinReQ, and gains, in points, by `Grid`."""
    found: dict[Grid, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for key, value in cells.items():
        if match := PRESET.fullmatch(key):
            name, activations, kind, bits, side, seed = match.groups()
            found[name, activations, kind, int(bits)][side][seed] = 100.0 * value["accuracy"]
    gains = {}
    for grid, sides in found.items():
        seeds = sorted(sides["with"].keys() & sides["without"].keys())
        without, with_sine = ([sides[side][seed] for seed in seeds] for side in ("without", "with"))
        pairs = zip(without, with_sine, strict=True)
        gains[grid] = {"without": without, "with": with_sine, "gain": [b - a for a, b in pairs]}
    return {grid: lists for grid, lists in gains.items() if len(lists["gain"]) > 1}


def preset_summary(gains: dict[Grid, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Returns a row per cell: mean accuracies and gain, its deviation over seeds, in points."""
    return [
        {
            **dict(zip(("network", "activations", "quantizer", "bits"), grid, strict=True)),
            "without": round(mean(lists["without"]), 2),
            "with": round(mean(lists["with"]), 2),
            "gain": round(mean(lists["gain"]), 2),
            "spread": round(stdev(lists["gain"]), 2),
            "seeds": len(lists["gain"]),
        }
        for grid, lists in sorted(gains.items())
    ]


def averages(gains: dict[Grid, dict[str, list[float]]]) -> dict[str, float]:
    """Returns the mean gain over cells of 3 to 5 bits, and of 2, by quantizer and in all."""
    found = {}
    widths = {"2 bits": (2,), "3 to 5 bits": (3, 4, 5)}
    for kind, (words, chosen) in itertools.product(("DoReFa", "WRPN", "both"), widths.items()):
        means = [
            mean(x["gain"])
            for grid, x in gains.items()
            if kind in (grid[2], "both") and grid[3] in chosen
        ]
        if means:
            found[f"{kind}, {words}"] = round(mean(means), 2)
    return found


def learned_points(cells: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a row per assignment of bits: mean accuracy (%), its deviation, container bytes."""
    found: dict[tuple[str, str, float], list[Any]] = defaultdict(list)
    for key, value in cells.items():
        if match := LEARNED.fullmatch(key):
            name, mode, bits = match.groups()
            found[name, mode.partition(",")[0], float(bits)].append(value)
    return [
        {
            "network": name,
            "assignment": mode,
            "average_bits": bits,
            "accuracy": round(100.0 * mean(value["accuracy"] for value in values), 2),
            "spread": round(100.0 * stdev(value["accuracy"] for value in values), 2),
            "container_bytes": round(mean(value["container_bytes"] for value in values)),
        }
        for (name, mode, bits), values in sorted(found.items())
        if len(values) > 1
    ]


def draw(points: list[dict[str, Any]]) -> None:
    """Draws accuracy over container bytes, a panel per network, a bar for the spread over seeds."""
    names = sorted({point["network"] for point in points})
    if not names:
        return
    figure, panels = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.6), squeeze=False)
    for name, axes in zip(names, panels[0], strict=True):
        for (mode, label), colour, marker in zip(
            LABELS.items(), ("#94a3b8", "#f59e0b", "#3b82f6"), "os^", strict=True
        ):
            line = sorted(
                (point["container_bytes"] / 1000, point["accuracy"], point["spread"])
                for point in points
                if (point["network"], point["assignment"]) == (name, mode)
            )
            if line:
                x, y, spread = zip(*line, strict=True)
                axes.errorbar(
                    x, y, spread, label=label, color=colour, marker=marker, capsize=2, lw=1.5
                )
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("container (kB)")
        axes.set_ylabel("test accuracy (%)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)
