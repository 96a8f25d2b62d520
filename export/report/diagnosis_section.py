"""The report's section on where accuracy goes: a picture along the graph, and the causes."""

from html import escape

import numpy as np

from ..diagnosis.diagnose import Diagnosis
from .pictures import ratios

_SHOWN = 10  # causes; the figures of all tensors are in the picture


def diagnosis_section(found: Diagnosis) -> str:
    """Returns the section's HTML: one line on the outputs, the picture, the worst tensors."""
    text = escape(f"{found.samples} samples, {found.line()}.")
    notes = "".join(f" {escape(note)}." for note in found.notes)
    compared = [tensor for tensor in found.tensors if tensor.snr_db is not None]
    picture = ""
    if compared:
        series = {
            "all layers before it rounded": [_finite(t.snr_db) for t in compared],
            "its own error alone": [_finite(t.own_snr_db) for t in compared],
        }
        svg = ratios([tensor.name for tensor in compared], series)
        caption = "Signal-to-noise ratio of each tensor against the float model, in decibels"
        picture = f'<figure class="broad"><figcaption>{caption}</figcaption>{svg}</figure>'
    items = "".join(
        f"<li><b>{escape(tensor.name)}:</b> {escape(found.causes[tensor.name].words)}"
        f"{_remedy(found.causes[tensor.name].remedy)}</li>"
        for tensor in found.worst[:_SHOWN]
    )
    causes = f"<ul>{items}</ul>" if items else ""
    return f"<p>{text}{notes}</p>{picture}{causes}"


def _finite(ratio: float | None) -> float | None:
    return ratio if ratio is not None and np.isfinite(ratio) else None


def _remedy(remedy: str) -> str:
    return f"<br><code>{escape(remedy)}</code>" if remedy else ""
