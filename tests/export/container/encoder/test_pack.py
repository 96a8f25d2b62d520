"""`pack` and `unpack` on whole files: every byte comes back, whatever the file holds."""

import hashlib
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.container.tflite_models import TYPES, Array, dense_layers, laplace_codes, tflite
from tfqreg.export.container import ContainerError, Limits, inspect, pack, unpack


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(
        st.tuples(
            st.sampled_from(sorted(TYPES)),
            st.lists(st.integers(0, 9), min_size=0, max_size=4),
            st.integers(1, 8),
            st.floats(0, 1),
        ),
        max_size=5,
    ),
    st.binary(max_size=40),
)
def test_round_trip(
    seed: int, tensors: list[tuple[str, list[int], int, float]], tail: bytes
) -> None:
    random = np.random.default_rng(seed)
    arrays = []
    for number, (kind, shape, bits, sparsity) in enumerate(tensors):
        data = random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
        data = (data * (random.random(shape) >= sparsity)).astype(kind)
        arrays.append(
            Array(f"t{number}", data, random.random(random.integers(1, 5)).astype(np.float32))
        )
    model = tflite(arrays) + tail
    assert unpack(pack(model)) == model


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 255, 256])
@pytest.mark.parametrize("kind", [schema.TensorType.INT4, schema.TensorType.INT2])
def test_packed_elements(count: int, kind: int) -> None:
    per_byte = 2 if kind == schema.TensorType.INT4 else 4
    data = np.random.default_rng(count).integers(0, 256, -(-count // per_byte)).astype(np.uint8)
    data &= 0x33
    model = tflite([Array("packed", data, type=kind, shape=(count,))])
    assert unpack(pack(model)) == model


def test_int4_codes_are_coded_as_nibbles() -> None:
    codes = laplace_codes(0, (64, 101), 4, 0.9).ravel()
    nibbles = (codes & 15).astype(np.uint8)
    packed = nibbles[0::2] | nibbles[1::2] << 4
    as_int4 = tflite([Array("w", packed, type=schema.TensorType.INT4, shape=(64, 101))])
    as_int8 = tflite([Array("w", codes.reshape(64, 101))])
    info, plain = inspect(pack(as_int4)).tensors[0], inspect(pack(as_int8)).tensors[0]
    assert info.shape == (64, 101) and info.weights == 6464
    assert (info.coded_bytes, info.nonzeros) == (plain.coded_bytes, plain.nonzeros)


def test_shifted_codes_cost_what_the_codes_cost() -> None:
    codes = laplace_codes(0, (64, 100), 4, 0.5)
    plain = inspect(pack(tflite([Array("w", codes)]))).tensors[0]
    up = inspect(pack(tflite([Array("w", codes << 4)]))).tensors[0]
    assert (up.shift, up.bits, plain.shift) == (4, 4, 0)
    assert up.coded_bytes == plain.coded_bytes and up.table_bytes == plain.table_bytes


def test_shared_and_repeated_buffers_are_stored_once() -> None:
    codes = laplace_codes(0, (64, 100), 4, 0.5)
    once = len(pack(tflite([Array("a", codes), Array("b", codes[:0])])))
    shared = len(pack(tflite([Array("a", codes), Array("b", buffer="a", shape=(100, 64))])))
    repeated = len(pack(tflite([Array("a", codes), Array("b", codes)])))
    assert shared < once + 24 and repeated < once + 24


def test_bias_scales_and_zero_points_cost_nothing() -> None:
    model = dense_layers(0, [128, 512], 4, 0.9)
    info = inspect(pack(model))
    assert (info.spans["PRODUCT_F32"].count, info.spans["PRODUCT_F32"].output_bytes) == (1, 4 * 512)
    assert info.spans["PRODUCT_F32"].coded_bytes <= 9
    assert info.spans["ZERO"].output_bytes == 2 * 8 * 512
    assert "dense_0/bias scale" not in [tensor.name for tensor in info.tensors]


@pytest.mark.parametrize("wrong", [np.nextafter(np.float32(1), np.float32(2)), np.float32(np.nan)])
def test_a_bias_scale_that_is_not_the_product_is_kept(wrong: np.float32) -> None:
    scale = np.linspace(0.01, 0.02, 8, dtype=np.float32)
    bias_scale = np.float32(0.5) * scale
    bias_scale[3] *= wrong
    kernel = Array("w", laplace_codes(0, (8, 32), 4, 0.5), scale)
    bias = Array("b", np.arange(8, dtype=np.int32), bias_scale)
    model = tflite([Array("x", scale=np.array([0.5]), shape=(1, 32)), kernel, bias], [[0, 1, 2]])
    assert inspect(pack(model)).spans["PRODUCT_F32"].count == 0
    assert unpack(pack(model)) == model


def test_noise_is_stored_raw() -> None:
    noise = np.random.default_rng(0).integers(-128, 128, (500, 500)).astype(np.int8)
    model = tflite([Array("noise", noise)])
    info = inspect(pack(model))
    assert info.tensors[0].codec == "RAW" and info.tensors[0].coded_bytes == 250_000
    assert unpack(pack(model)) == model


@pytest.mark.parametrize("group", [400, 100], ids=["halves of rows", "eighths of rows"])
def test_groups_of_one_bit_cost_a_bit_per_weight(group: int) -> None:
    random = np.random.default_rng(0)
    kept = random.random((200 * 800 // group, 1)) < 0.1
    codes = (kept * random.choice([-1, 1], (len(kept), group))).astype(np.int8).reshape(200, 800)
    (tensor,) = inspect(pack(tflite([Array("kernel", codes)]))).tensors
    # One bit per group says whether there are weights in it at all.
    assert tensor.coded_bytes < kept.sum() * group / 8 * 1.02 + len(kept) / 8 + 20


def test_small_network_overhead() -> None:
    """LeNet-5's layers as dense ones: everything but the weight streams stays under 2 KB."""
    model = dense_layers(0, [800, 500, 10], 4, 0.95)
    info = inspect(pack(model))
    scales = sum(
        t.coded_bytes + t.table_bytes + t.index_bytes
        for t in info.tensors
        if t.name.endswith("scale")
    )
    assert info.overhead_bytes - scales < 2048


def test_a_file_past_the_tables_of_its_flatbuffer_is_refused() -> None:
    model = dense_layers(0, [64, 16], 4, 0.5)
    with pytest.raises(ContainerError, match=r"cannot be read .*interpreter"):
        pack(model[:600])


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x89TQW\r\n\x1a\n", bytes(100)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ContainerError, match=r"identifier .* instead of b'TFL3'"):
        pack(data)


def test_buffers_outside_the_flatbuffer_are_literals() -> None:
    model = schema.ModelT()
    model.version = 3
    buffer = schema.BufferT()
    buffer.offset, buffer.size = 1024, 4096
    model.buffers = [schema.BufferT(), buffer]
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer = [64, 64], schema.TensorType.INT8, 1
    graph = schema.SubGraphT()
    graph.tensors = [tensor]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = bytes(builder.Output()).ljust(1024, b"\0") + laplace_codes(0, (64, 64), 4, 0.9).tobytes()
    assert unpack(pack(file)) == file


def test_limits() -> None:
    model = dense_layers(0, [64, 16], 4, 0.5)
    container = pack(model)
    assert unpack(container, Limits(output_bytes=len(model), tensors=3)) == model
    with pytest.raises(
        ContainerError, match=rf"has {len(model)} bytes, the limit is {len(model) - 1}.*Raise"
    ):
        unpack(container, Limits(output_bytes=len(model) - 1))
    with pytest.raises(ContainerError, match=r"more than 1 tensors.*Raise"):
        unpack(container, Limits(tensors=1))


def test_header_holds_the_sha256_of_the_output() -> None:
    model = dense_layers(0, [64, 16], 4, 0.5)
    assert pack(model)[12:44] == hashlib.sha256(model).digest()


def test_progress_ends_at_the_total() -> None:
    model = dense_layers(0, [300, 300, 300], 4, 0.5)
    packing: list[tuple[int, int]] = []
    unpacking: list[tuple[int, int]] = []
    container = pack(model, progress=lambda *state: packing.append(state))
    unpack(container, progress=lambda *state: unpacking.append(state))
    for seen in (packing, unpacking):
        assert seen[-1] == (len(model), len(model))
        assert len(seen) > 2 and seen == sorted(seen)


def test_speed() -> None:
    """A floor far under the 7 MB/s that a quiet machine exceeds: it catches a loop over weights.

    In processor time, as other programs may take their part of the machine.
    """
    model = dense_layers(0, [1000, 1000, 1000], 4, 0.8)
    container = pack(model)
    began = time.process_time()
    assert unpack(container) == model
    assert len(model) / (time.process_time() - began) > 1e6


def test_a_delta_carries_what_changed() -> None:
    """One training step apart: a twentieth of the file, and nothing at all for the same file."""
    before = dense_layers(0, [256, 128, 10], 4, 0.8)
    codes = np.frombuffer(before, np.int8).copy()
    place = before.index(laplace_codes(0, (128, 256), 4, 0.8).__lshift__(4).tobytes())
    changed = place + np.random.default_rng(0).integers(0, 128 * 256, 300)
    codes[changed] = np.clip(codes[changed].astype(int) + 16, -112, 112)
    after = codes.tobytes()
    whole, delta = pack(after), pack(after, base=before)
    assert len(delta) < len(whole) / 5
    assert pack(after, base=pack(before)) == delta
    assert unpack(delta, base=before) == unpack(delta, base=pack(before)) == after
    assert len(pack(before, base=before)) < 120


def test_a_delta_needs_its_base() -> None:
    before, after = dense_layers(0, [64, 16], 4, 0.5), dense_layers(1, [64, 16], 4, 0.5)
    delta = pack(after, base=before)
    with pytest.raises(
        ContainerError, match=r"delta to a file of 2\d+ bytes and none was given.*SHA-256"
    ):
        unpack(delta)
    with pytest.raises(
        ContainerError, match=r"another SHA-256. Received: 2\d+ bytes, [0-9a-f]{64}"
    ):
        unpack(delta, base=after)
    with pytest.raises(ContainerError, match="instead of b'TFL3'"):
        pack(after, base=b"no model")
