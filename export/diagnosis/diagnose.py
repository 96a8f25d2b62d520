"""`diagnose`: where a quantized model loses accuracy, and what to do about it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfqreg.errors import ModelError

from ..flatbuffer.read import PRODUCTS
from ..ir import Graph
from ..lowering.lower import lower_with_places
from ..simulator import named_inputs, simulate
from ..verification.samples import Samples, graph_inputs
from .causes import Cause, cause_of
from .measure import TensorFigures, real_values, snr_db, tensor_figures
from .reference import float_values, numbered

_SHOWN = 10
# All tensors of the float net and of the integer net are held: 512 MiB of float32.
_MOST_ELEMENTS = 1 << 27


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; as text the worst tensors with cause and remedy.

    Attributes:
        samples: how many were run.
        outputs: by name of the output, its signal-to-noise ratio in decibels; None where it was
            not compared.
        tensors: the figures of every tensor, in the order of the graph.
        causes: by tensor, what is wrong with it; sound ones are not in it.
        notes: what could not be compared, and why.
    """

    samples: int
    outputs: dict[str, float | None]
    tensors: list[TensorFigures]
    causes: dict[str, Cause]
    notes: list[str]

    @property
    def worst(self) -> list[TensorFigures]:
        """The tensors with a cause: first those that lose values, the worst ratio first."""
        suspects = [tensor for tensor in self.tensors if tensor.name in self.causes]
        return sorted(suspects, key=lambda t: (self.causes[t.name].order, _ratio(t)))

    def line(self) -> str:
        """Returns how the outputs compare, in one line."""
        compared = [
            f"{name} {ratio:.1f} dB" for name, ratio in self.outputs.items() if ratio is not None
        ]
        return f"outputs against the float model: {', '.join(compared) or 'not compared'}"

    def to_json(self) -> str:
        """Returns the ratios as node data that Model Explorer lays over the `.tflite`."""
        results = {
            tensor.name: {"value": round(tensor.snr_db, 2)}
            for tensor in self.tensors
            if tensor.snr_db is not None and np.isfinite(tensor.snr_db)
        }
        gradient = [
            {"stop": 0, "bgColor": "#b91c1c"},
            {"stop": 0.5, "bgColor": "#fbbf24"},
            {"stop": 1, "bgColor": "#15803d"},
        ]
        return json.dumps({"main": {"results": results, "gradient": gradient}}, indent=2)

    def __str__(self) -> str:
        lines = [f"{self.samples} samples, {self.line()}", *self.notes]
        for tensor in self.worst[:_SHOWN]:
            cause = self.causes[tensor.name]
            lines.append(f"{tensor.name}: {_figures(tensor)}")
            lines.append(f"  {cause.words}")
            if cause.remedy:
                lines.append(f"  {cause.remedy}")
        if len(self.worst) > _SHOWN:
            lines.append(f"and {len(self.worst) - _SHOWN} tensors more")
        if not self.causes:
            lines.append("no tensor stands out")
        return "\n".join(lines)


def diagnose(
    model: keras.Model,
    samples: Samples,
    reference: keras.Model | None = None,
    batch_size: int = 16,
) -> Diagnosis:
    r"""Compares every tensor of the integer net with the float net on the same samples.

    The ratio of a tensor is `10 log10(sum x^2 / sum (x - y)^2)`, with x of the float net and y of
    the integer net. Its own ratio is that with float values in everything before it.

    Args:
        model: a quantized model, trained or calibrated.
        samples: what the model takes: one array (batch, ...), or one per input, by position or
            name. As many as fit in 512 MiB are used, from the first on.
        reference: the float model it came from. None by default: then steps of grids and clipped
            codes alone are reported.
        batch_size: samples of a call of the float model; 16 by default.

    Raises:
        ModelError: as `tfqreg.export.lower`, for samples that do not fit, and for a reference of
            another structure.

    Example:
        >>> import numpy as np
        >>> import tfqreg as tq
        >>> net = keras.Sequential([keras.Input((16,), name="x"), keras.layers.Dense(8, name="y")])
        >>> x = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
        >>> q = tq.quantize(net, [tq.Rule("y", weights=tq.Uniform(bits=2))])
        >>> print(tq.diagnose(tq.calibrate(q, x, verbose=0), x, reference=net))
        64 samples, outputs against the float model: y ... dB
        y: SNR ... dB, ... dB in the worst channel, ... dB of its own, ... steps at least
          its weights have 2 bits
          tfqreg.Rule("y", weights=tfqreg.Uniform(bits=4))
    """
    graph, found = lower_with_places(model)
    places = {
        name: place
        for (_, name), place in zip(found, numbered([path for path, _ in found]), strict=True)
    }
    samples = _fitting(graph, samples)
    inputs = named_inputs(graph, graph_inputs(graph, samples))
    notes: list[str] = []
    expected, last = None, None
    if reference is None:
        notes.append("without reference=, the float model: nothing is compared with it")
    else:
        expected, last = float_values(reference, _as_arrays(samples), batch_size)
        absent = sorted({name for name, place in places.items() if place not in expected})
        if len(absent) == len(places):
            raise ModelError(
                "reference",
                "the float model must be the one that was quantized",
                "Give the model that tfqreg.quantize took",
                f"none of the layers of {reference.name}",
            )
        if absent:
            notes.append(
                f"not compared, for the float model has no such place: {', '.join(absent)}"
            )
    kept = {op.outputs[0] for op in graph.ops} & {*places, *graph.outputs}
    values = inputs | simulate(graph, inputs, keep=kept)
    tensors = tensor_figures(graph, places, values, expected)
    bits, partners = _weight_bits(graph), _partners(found)
    causes = {t.name: cause_of(t, bits.get(t.name), partners.get(t.name, ())) for t in tensors}
    return Diagnosis(
        len(next(iter(inputs.values()))),
        _outputs(graph, values, last),
        tensors,
        {name: cause for name, cause in causes.items() if cause.words},
        notes,
    )


def _ratio(tensor: TensorFigures) -> float:
    """What ranks a tensor: its own ratio, or that of its worst channel; its steps without any."""
    known = [r for r in (tensor.own_snr_db, tensor.worst_channel_db) if r is not None]
    return min(known, default=float(tensor.spans.min()))


def _figures(tensor: TensorFigures) -> str:
    parts = []
    if tensor.snr_db is not None:
        parts.append(f"SNR {tensor.snr_db:.1f} dB")
    if tensor.worst_channel_db is not None and tensor.moving.size > 1:
        parts.append(f"{tensor.worst_channel_db:.1f} dB in the worst channel")
    if tensor.own_snr_db is not None:
        parts.append(f"{tensor.own_snr_db:.1f} dB of its own")
    parts.append(f"{int(tensor.spans.min())} steps at least")
    return ", ".join(parts)


def _fitting(graph: Graph, samples: Samples) -> Samples:
    """The first samples, as many as fit."""
    elements = sum(int(np.prod(graph.tensors[op.outputs[0]].shape)) for op in graph.ops)
    count = max(_MOST_ELEMENTS // max(elements, 1), 1)
    return keras.tree.map_structure(lambda x: np.asarray(x)[:count], samples)


def _as_arrays(samples: Samples) -> Any:
    if isinstance(samples, np.ndarray | dict):
        return samples
    return list(samples) if len(samples) > 1 else samples[0]


def _weight_bits(graph: Graph) -> dict[str, int]:
    """The bits of the weights of each tensor's layer."""
    return {
        op.outputs[0]: graph.tensors[op.inputs[1]].bits for op in graph.ops if op.kind in PRODUCTS
    }


def _partners(found: list[tuple[str, str]]) -> dict[str, list[str]]:
    """By tensor, the others that its quantizer rounds too."""
    return {
        name: [other for place, other in found if place == path and other != name]
        for path, name in found
    }


def _outputs(
    graph: Graph, values: dict[str, np.ndarray], last: Sequence[np.ndarray] | None
) -> dict[str, float | None]:
    if last is None:
        return dict.fromkeys(graph.outputs)
    ratios: dict[str, float | None] = {}
    for name, expected in zip(graph.outputs, last, strict=True):
        grid = graph.tensors[name].quantization
        assert grid is not None
        real = real_values(values[name], grid)
        ratios[name] = snr_db(expected.reshape(real.shape), real)
    return ratios
