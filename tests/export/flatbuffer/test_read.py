"""The one reader of `.tflite` files: forms, operators, ends, and files that are damaged."""

import flatbuffers
import numpy as np
import pytest

from tests.export import small_model
from tfqreg.errors import ModelError
from tfqreg.export import kernel_exponents, lower, write_tflite
from tfqreg.export.export import exported_graph
from tfqreg.export.flatbuffer.read import (
    Form,
    ends_of_file,
    file_bytes,
    parse,
    read_form,
    read_operators,
    read_tflite,
)

FORMS = [
    (form, scale_dtype)
    for form in ("int8", "int4", "portable")
    for scale_dtype in ("float32", "bfloat16")
]


def exported(form: str, scale_dtype: str) -> bytes:
    storage = "int4" if form == "int4" else "int8"
    model = small_model.trained()[0]
    return write_tflite(exported_graph(model, False, form == "portable", storage, scale_dtype))


@pytest.fixture(scope="module")
def tflite() -> bytes:
    return exported("int8", "float32")


@pytest.mark.parametrize("form, scale_dtype", FORMS)
def test_a_file_says_in_which_form_it_is(form, scale_dtype):
    tflite = exported(form, scale_dtype)
    assert read_form(tflite) == Form(form, scale_dtype)
    # What the file says is enough to write it again, byte for byte.
    assert exported(*read_form(tflite)[:2]) == tflite
    assert len({exported(*other) for other in FORMS}) == len(FORMS)


@pytest.mark.parametrize("scale_dtype", ["float32", "bfloat16"])
def test_the_default_form_costs_no_byte(scale_dtype):
    assert parse(exported("int8", scale_dtype)).metadata is None
    extra = parse(exported("portable", scale_dtype)).metadata
    assert [entry.name for entry in extra] == [b"tfqreg.form"]


def test_scales_that_fit_bfloat16_are_the_same_in_both(tflite):
    """Powers of two: which of the two dtypes they were rounded to cannot matter."""
    graph = lower(small_model.trained()[0])
    for tensor in graph.tensors.values():
        if tensor.quantization is not None:
            exponents = np.round(np.log2(tensor.quantization.scale))
            object.__setattr__(tensor.quantization, "scale", np.exp2(exponents).astype(np.float32))
    assert read_form(write_tflite(graph)) == Form("int8", "bfloat16")
    assert read_form(tflite) == Form("int8", "float32")


def test_operators_with_their_tensors(tflite):
    operators = read_operators(tflite)
    kinds = ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert [operator.kind for operator in operators] == kinds
    assert [operator.name for operator in operators][-1] == "head"
    first = operators[0]
    assert first.data[0] is None  # an activation
    assert [data is None for data in first.data] == [True, False, False]
    assert kernel_exponents(tflite) == {}


def test_an_unknown_operator_is_a_custom_one(tflite):
    model = parse(tflite)
    model.operatorCodes[0].builtinCode = 9999
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    assert read_operators(bytes(builder.Output()))[0].kind == "CUSTOM"


def test_ends(tflite):
    assert ends_of_file(tflite) == [[("image", "int8")], [("head", "int8")]]


def test_bytes_or_a_path(tflite, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite)
    assert file_bytes(tflite) == file_bytes(path) == file_bytes(str(path)) == tflite
    assert read_tflite(path) == tflite
    path.write_bytes(b"no model")
    with pytest.raises(ModelError) as caught:
        read_tflite(path)
    assert caught.value.path == str(path)
    assert caught.value.received == "8 bytes, starting b'no model'"


@pytest.mark.parametrize("read", [read_operators, read_form, ends_of_file, kernel_exponents])
@pytest.mark.parametrize("damaged", [b"\x1c\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + bytes(90)])
def test_damage_is_named(read, damaged):
    with pytest.raises(ModelError, match=r"^This \.tflite file is damaged\. Export it again\."):
        read(damaged)


def test_an_entry_that_is_no_json_is_damage():
    model = parse(exported("portable", "float32"))
    model.buffers[model.metadata[0].buffer].data = np.frombuffer(b"{", np.uint8)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    with pytest.raises(ModelError, match="damaged"):
        read_form(bytes(builder.Output()))
