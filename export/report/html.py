"""The report of a model as one HTML page that loads nothing from anywhere."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..container import unpack
from ..container.files import write_atomically
from ..diagnosis.diagnose import Diagnosis
from ..flatbuffer.read import file_bytes
from .diagnosis_section import diagnosis_section
from .explanation import explanation
from .page import page
from .pictures import MANY_KERNELS, byte_bars, curves, histogram
from .summary import HEADER, Summary, cells, summarize, summarize_model, total_cells

Figures = Sequence[Mapping[str, Mapping[str, float]]]
History = Mapping[str, Mapping[str, Sequence[float]]]

_LEARNED = {
    "beta": ("Learned bits of the weights, without the sign", False),
    "coefficient": ("Coefficient of the penalty towards the grid", True),
    "prune_coefficient": ("Coefficient of the penalty towards zero", True),
    "grid_error": ("Distance of the weights to their levels, in scales", False),
    "sparsity": ("Fraction of zeros", False),
}
_MULTIPLIES = (
    "Multiplies are those by nonzero weights, for one input. Shifts, each with an addition, could "
    "take their place in hardware without multipliers; they are counted if every code is a sum of "
    "at most two signed powers of two."
)
_ACCURACY = "_accuracy"
_SHOWN_ELSEWHERE = (
    *("mismatched_elements", "compared_elements", "seed", "versions"),
    *("float_bytes", "tflite_bytes", "container_bytes", "compression_ratio"),
)


def write_report(
    path: str | Path,
    model: Any = None,
    tflite: bytes | str | Path | None = None,
    container: bytes | str | Path | None = None,
    history: History | None = None,
    figures: Figures | None = None,
    result: Mapping[str, Any] | None = None,
    target: str | None = None,
    diagnosis: Diagnosis | None = None,
) -> None:
    """Writes one HTML page on a model; parts whose data is missing are left out.

    Args:
        path: the `.html` to write; it appears whole or not at all.
        model: a `keras.Model`, quantized for the histograms of its weights against their levels.
        tflite, container: bytes or path of its `.tflite` and `.tqw`. Either is made from the other,
            both from a quantized model.
        history: by training ("float", "quantized"), what `fit` returned: lists over epochs of
            "loss", "accuracy", "val_loss" and "val_accuracy".
        figures: `tfqreg.Monitor().rows`: one `tfqreg.kernel_figures` per epoch.
        result: what was measured. "float_accuracy", "keras_accuracy", "simulated_accuracy" and
            "tflite_accuracy" are fractions, 0 to 1; "mismatched_elements" of "compared_elements";
            "float_bytes", if the float model has others than its weights and biases; "seed";
            "versions" by package. All else is listed as it is.
        target: a name of `tfqreg.export.target_names()`; for an Ethos-U, Vela compiles the model
            if it is installed. Default none.
        diagnosis: what `tfqreg.diagnose` returned; none by default.

    Raises:
        ContainerError: for a damaged `.tflite` or `.tqw`.
        OSError: if a file cannot be read or written.
        ModelError: for a quantized model that has no integer form, or an unknown target.
        RuntimeError: if Vela fails on the model.
        ImportError: without matplotlib, when this module is imported.

    Example:
        >>> write_report("report.html", model, "m.tflite", "m.tqw", figures=monitor.rows)
    """
    summary = _summary(model, tflite, container)
    title = getattr(model, "name", None) or _name_of(tflite) or _name_of(container) or "tfqreg"
    sections = [
        ("", _headline(summary, result or {})),
        ("Layers", _table(summary) if summary else ""),
        ("Bytes per layer", _bytes(summary)),
        ("Where accuracy goes", diagnosis_section(diagnosis) if diagnosis else ""),
        (f"On {target}", _target(target, model, tflite, container)),
        ("Why is it not smaller?", _list(explanation(summary)) if summary else ""),
        ("Training", _training(history or {})),
        ("Learned coefficients, grid error, sparsity", _learned(figures or [])),
        ("Float weights against their levels", _histograms(model)),
        ("Run", _run(result or {})),
    ]
    write_atomically(
        Path(path), page(title, [(name, body) for name, body in sections if body]).encode()
    )


def _target(target: str | None, model: Any, tflite: Any, container: Any) -> str:
    if target is None or (model is None and tflite is None and container is None):
        return ""
    from .target_section import target_section

    return target_section(target, model, tflite, container)


def _summary(model: Any, tflite: Any, container: Any) -> Summary | None:
    packed = None if container is None else file_bytes(container)
    if tflite is not None:
        return summarize(file_bytes(tflite), packed)
    if packed is not None:
        return summarize(unpack(packed), packed)
    return None if model is None else summarize_model(model)


def _name_of(file: Any) -> str | None:
    return None if isinstance(file, bytes | None) else Path(file).name


def _headline(summary: Summary | None, result: Mapping[str, Any]) -> str:
    tiles = [
        (f"accuracy, {name.removesuffix(_ACCURACY)}", f"{fraction:.2%}", "")
        for name, fraction in result.items()
        if name.endswith(_ACCURACY)
    ]
    if "mismatched_elements" in result:
        compared = result.get("compared_elements")
        note = "" if compared is None else f"of {compared:,} compared"
        tiles.append(("elements that differ", f"{result['mismatched_elements']:,}", note))
    if summary:
        float_bytes = result.get("float_bytes", summary.float_bytes)
        whole = summary.container_bytes
        tiles.append(("float32 weights (bytes)", f"{float_bytes:,}", ""))
        if whole:
            tiles.append((".tflite (bytes)", f"{summary.tflite_bytes:,}", ""))
            tiles.append((".tqw container (bytes)", f"{whole:,}", ""))
            tiles.append(
                ("smaller than float32", f"{float_bytes / whole:.1f}\N{MULTIPLICATION SIGN}", "")
            )
    boxes = (
        f"<div class=tile><span>{escape(label)}</span><b>{value}</b><small>{note}</small></div>"
        for label, value, note in tiles
    )
    return f"<div class=tiles>{''.join(boxes)}</div>" if tiles else ""


def _table(summary: Summary) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "".join(_table_row(cells(row)) for row in summary.rows)
    total = _table_row(total_cells(summary.rows))
    text = (
        f"<div class=wide><table class=kernels><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f"<tfoot>{total}</tfoot></table></div>"
    )
    whole = summary.container_bytes
    if any(row.multiplications for row in summary.rows):
        text += f"<p>{_MULTIPLIES}</p>"
    if not whole:
        return text + "<p>This model is not quantized: its weights are float32.</p>"
    parts = "".join(
        _table_row([name, f"{size:,}", f"{size / whole:.1%}"])
        for name, size in summary.parts.items()
    )
    last = _table_row(["container", f"{whole:,}", "100.0%"])
    return (
        f"{text}<div class='wide fit'><table><thead><tr><th>part of the "
        f"container</th><th>bytes</th>"
        f"<th>fraction</th></tr></thead><tbody>{parts}</tbody><tfoot>{last}</tfoot></table></div>"
    )


def _table_row(texts: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"


def _bytes(summary: Summary | None) -> str:
    if summary is None or not summary.container_bytes or not summary.rows:
        return ""
    return f"<div class=pictures>{_picture('', byte_bars(summary.rows), 'broad')}</div>"


def _list(sentences: Sequence[tuple[str, str]]) -> str:
    items = "".join(
        f"<li><b>{escape(subject)}:</b> {escape(text)}</li>" for subject, text in sentences
    )
    return f"<ul>{items}</ul>" if items else ""


def _training(history: History) -> str:
    pictures = []
    for measure in ("loss", "accuracy"):
        series = {
            f"{training}, {label}": lists[key]
            for training, lists in history.items()
            for key, label in ((measure, "training"), (f"val_{measure}", "validation"))
            if lists.get(key)
        }
        if series:
            pictures.append(_picture(measure.capitalize(), curves(series, measure)))
    return f"<div class=pictures>{''.join(pictures)}</div>" if pictures else ""


def _learned(figures: Figures) -> str:
    kernels = list(dict.fromkeys(kernel for row in figures for kernel in row))
    pictures = []
    for key, (caption, logarithmic) in _LEARNED.items():
        series = {kernel: [row.get(kernel, {}).get(key) for row in figures] for kernel in kernels}
        shown = [value for values in series.values() for value in values if value is not None]
        if shown:
            picture = curves(series, key.replace("_", " "), logarithmic and max(shown) > 0)
            pictures.append(_picture(caption + _order_note(series), picture))
    return f"<div class=pictures>{''.join(pictures)}</div>" if pictures else ""


def _order_note(series: Mapping[str, Any]) -> str:
    return (
        f"; {len(series)} kernels, the first dark, the last bright"
        if len(series) > MANY_KERNELS
        else ""
    )


def _histograms(model: Any) -> str:
    if model is None:
        return ""
    from tfqreg.layers.queries import quantized_layers
    from tfqreg.regularizers import SinReQ

    pictures, sines = [], False
    for layer in quantized_layers(model):
        for kernel, variable in layer.kernel_pairs():
            codes, params = kernel.encode(variable)
            weights = kernel.quantizer.code_positions(variable, params)
            pruned = (
                np.zeros(codes.shape, bool) if kernel.mask is None else ~np.asarray(kernel.mask)
            )
            name = f"{layer.name}/{kernel.name}, {params['bits']} bits"
            # Codes without a zero are odd.
            period = (
                (1 if kernel.quantizer.has_zero else 2)
                if isinstance(kernel.regularizer, SinReQ)
                else 0
            )
            sines |= period > 0
            pictures.append(_picture(name, histogram(weights, codes, pruned, period)))
    note = (
        "<p>Bars count float weights in units of their scale; lines are the levels in use, up to "
        "40 of them.</p>"
    )
    if sines:
        note += "<p>The curve is the sine that pulls weights to its minima.</p>"
    return f"{note}<div class=pictures>{''.join(pictures)}</div>" if pictures else ""


def _picture(caption: str, svg: str, kind: str = "") -> str:
    words = escape(caption)
    title = f"<figcaption>{words}</figcaption>" if words else ""
    label = f'<svg role="img" aria-label="{words or "bars"}"'
    return f'<figure class="{kind}">{title}{svg.replace("<svg", label, 1)}</figure>'


def _run(result: Mapping[str, Any]) -> str:
    facts = {"seed": result["seed"]} if "seed" in result else {}
    facts |= result.get("versions", {})
    shown = {name for name in result if name.endswith(_ACCURACY)} | set(_SHOWN_ELSEWHERE)
    facts |= {name.replace("_", " "): value for name, value in result.items() if name not in shown}
    rows = (
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
    )
    return f"<dl>{''.join(rows)}</dl>" if facts else ""
