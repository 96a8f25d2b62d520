"""A quantized model as an all-integer `.tflite`, and as the bytes that ship."""

from dataclasses import replace
from pathlib import Path

import keras

from tfqreg.errors import ModelError

from .container import pack
from .container.files import write_atomically
from .flatbuffer.write import write_tflite
from .forms.ends import with_ends
from .forms.int4 import int4_storage
from .forms.portable import portable as portable_form
from .ir import Graph
from .lowering.builder import used
from .lowering.lower import lower
from .targets.rules import Target, load_target, target_findings

STORAGES = ("int8", "int4")
SCALE_DTYPES = ("float32", "bfloat16")


def export_tflite(
    model: keras.Model,
    path: str | Path,
    container: str | Path | None = None,
    float_io: bool = False,
    portable: bool = False,
    storage: str = "int8",
    scale_dtype: str = "float32",
    logits: bool = False,
    target: str | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
) -> Graph:
    """Writes a quantized model as an all-integer `.tflite`; returns its integer graph.

    The operators are TFLite's builtin ones.

    A model equals `simulate(graph, ..., mode)` in every element, each runtime in its own mode; a
    portable one equals the same numbers on all of them.

    Args:
        model: a trained or calibrated model with quantizers.
        path: the `.tflite` to write; it appears whole or not at all.
        container: a `.tqw` to write beside it, entropy-coded; none by default.
        float_io: short for `input_type="float32", output_type="float32"`; False by default.
        portable: scales at powers of two and weights of 6 bits, derived anew from the model's:
            bit-exact on every interpreter, at some cost in accuracy
            (`tfqreg.export.forms.portable`). False by default.
        storage: "int8", or "int4": two weights per byte if their codes fit and every runtime takes
            them. The reference kernels stay exact, the default ones are not
            (`tfqreg.export.forms.int4`). "int8" by default.
        scale_dtype: "bfloat16" rounds the scales of weights to 8 bits, in simulator and file alike:
            a third of their bytes in the container, and a change of 0.4 % at most per channel.
            "float32" by default.
        logits: leave out a softmax at the end: the outputs are its inputs, whose largest element
            is the same. False by default.
        target: what the file is for, a name of `tfqreg.export.target_names()` such as
            "android-arm64"; it is stored in the file, and `verify` then compares with that target's
            runtimes. None by default.
        input_type: of all inputs: "int8", "uint8" (what a camera gives; exact everywhere) or
            "float32" in the model's own units; "int8" by default.
        output_type: of all outputs, likewise; "int8" by default.

    The file has one signature, whose inputs and outputs go by the names, and in the order, of the
    Keras model: keys of a dict, or names of layers.

    Raises:
        ModelError: as `tfqreg.export.lower`, for an operator that cannot be portable or that the
            target refuses, and for arguments that exclude each other; before anything is written.
        OSError: if a file cannot be written.

    Example:
        >>> graph = export_tflite(model, "net.tflite", container="net.tqw")
        >>> graph.inputs, [op.kind for op in graph.ops][:2]
        (['image'], ['CONV_2D', 'RESHAPE'])
    """
    graph = exported_graph(
        model, float_io, portable, storage, scale_dtype, logits, target, input_type, output_type
    )
    tflite = write_tflite(graph)
    packed = None if container is None else pack(tflite)
    write_atomically(Path(path), tflite)
    if container is not None and packed is not None:
        write_atomically(Path(container), packed)
    return graph


def exported_graph(
    model: keras.Model,
    float_io: bool = False,
    portable: bool = False,
    storage: str = "int8",
    scale_dtype: str = "float32",
    logits: bool = False,
    target: str | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
) -> Graph:
    """Returns the integer graph that `export_tflite` writes with these arguments."""
    rules = None if target is None else load_target(target)
    if storage not in STORAGES:
        raise ModelError(
            "", f"`storage` is one of {', '.join(STORAGES)}", received=f"storage={storage!r}"
        )
    if portable and storage == "int4":
        raise ModelError(
            "", "Portable weights take 6 bits", 'Leave out `portable`, or `storage="int4"`'
        )
    both = "float32" if float_io else "int8"
    input_type, output_type = input_type or both, output_type or both
    if portable and input_type == "float32":
        raise ModelError(
            "",
            "Portable inputs are int8 or uint8: interpreters round float32 in their own ways",
            'Give `input_type="int8"`',
        )
    if scale_dtype not in SCALE_DTYPES:
        raise ModelError(
            "",
            f"`scale_dtype` is one of {', '.join(SCALE_DTYPES)}",
            received=f"scale_dtype={scale_dtype!r}",
        )
    graph = replace(lower(model, scale_dtype=scale_dtype), target=target)
    if logits:
        graph = without_softmax(graph)
    if portable:
        graph = portable_form(graph)
    elif storage == "int4":
        graph = int4_storage(graph)
    graph = with_ends(graph, input_type, output_type)
    if rules is not None:
        _refuse(graph, rules)
    return graph


def without_softmax(graph: Graph) -> Graph:
    """Returns a graph whose outputs are the inputs of the softmaxes that ended it.

    Raises:
        ModelError: if no output comes from a softmax.
    """
    scores = {op.outputs[0]: op.inputs[0] for op in graph.ops if op.kind == "SOFTMAX"}
    outputs = [scores.get(name, name) for name in graph.outputs]
    if outputs == graph.outputs:
        raise ModelError(
            "",
            "`logits=True` leaves out a softmax at the end of the model",
            "Leave out `logits`",
            f"outputs {graph.outputs}",
        )
    return used(replace(graph, outputs=outputs, logits=True))


def _refuse(graph: Graph, target: Target) -> None:
    """Raises ModelError for the first operator that a target does not run."""
    errors = [f for f in target_findings(write_tflite(graph), target) if f.severity == "error"]
    if errors:
        raise ModelError(errors[0].path, errors[0].rule, errors[0].fix, errors[0].received)


def container_size(model: keras.Model, scale_dtype: str = "bfloat16") -> int:
    """Returns the bytes of the container that `export_tflite` would write; no file is written.

    Args:
        model: a quantized model whose activation scales are set.
        scale_dtype: as of `export_tflite`; "bfloat16" by default.

    Raises:
        ModelError: as `export_tflite`.

    Example:
        >>> export_tflite(model, "net.tflite", "net.tqw", scale_dtype="bfloat16").form
        'int8'
        >>> container_size(model) == Path("net.tqw").stat().st_size
        True
    """
    return len(pack(write_tflite(exported_graph(model, scale_dtype=scale_dtype))))
