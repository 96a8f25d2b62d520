"""The history of a training that `tfqreg report` draws: a JSON file, checked before it is used."""

import json
from pathlib import Path
from typing import Any

from .files import UserError, read

_KEYS = ("float", "quantized", "figures", "result")
_LONGEST_REASON = 200  # characters
_COUNTS = ("mismatched_elements", "compared_elements", "float_bytes")
_CURVES = "lists of numbers by name, as fit returns them"
_FIGURES = "a list with, for each epoch, numbers by name for each kernel, as Monitor().rows"
_RESULT = f"an object, with numbers for {', '.join(_COUNTS)} and what ends in _accuracy"


def load_history(path: Path) -> dict[str, Any]:
    """Returns the object of a history file; raises UserError if it is none.

    Example:
        >>> Path("h.json").write_text('{"float": {"loss": [0.5, 0.2]}}')
        31
        >>> load_history(Path("h.json"))
        {'float': {'loss': [0.5, 0.2]}}
    """
    try:
        history = json.loads(read(path))
    except ValueError as error:
        raise UserError(
            f"{path}: this is no JSON. Write it with json.dump. Received: {error}"
        ) from error
    except RecursionError as error:
        raise UserError(
            f"{path}: this is no history, its JSON nests too deeply. Write one with json.dump. "
            f"Received: {path.stat().st_size:,} bytes"
        ) from error
    if not isinstance(history, dict) or not set(history) <= set(_KEYS):
        raise UserError(
            f"{path}: a history is an object with some of {', '.join(_KEYS)}. "
            f"Received: {_shown(history)}"
        )
    for key, value in history.items():
        sound, rule = _CHECKS[key]
        if not sound(value):
            raise UserError(f'{path}: "{key}" is {rule}. Write it so. Received: {_shown(value)}')
    return history


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "JSON that nests too deeply"
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and abs(value) < float("1e308")) or value != value


def _are_curves(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(line, list) and all(map(_is_number, line)) for line in value.values()
    )


def _are_figures(value: Any) -> bool:
    """Returns whether it is a list of numbers by name by kernel; null stands for no number."""
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and all(
            isinstance(numbers, dict)
            and all(number is None or _is_number(number) for number in numbers.values())
            for numbers in row.values()
        )
        for row in value
    )


def _is_result(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("versions", {}), dict)
        and all(
            _is_number(found)
            for name, found in value.items()
            if name in _COUNTS or name.endswith("_accuracy")
        )
    )


_CHECKS = {
    "float": (_are_curves, _CURVES),
    "quantized": (_are_curves, _CURVES),
    "figures": (_are_figures, _FIGURES),
    "result": (_is_result, _RESULT),
}
