"""Other codecs of integer weights: general compressors, Vela's mlw and DeepCABAC.

DeepCABAC (Wiedemann et al. 2020) is the C++ part of the PyPI package `nncodec`, built from its
sdist into `build/nncodec` by `python -m benchmarks.codecs`, which takes minutes. Its licence grants
no patents: it is never part of tfqreg.
"""

import bz2
import importlib.util
import lzma
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NNCODEC = Path(__file__).parents[1] / "build" / "nncodec"
# Of the flags before a value's exponential part.
DEEPCABAC_UNARY_LENGTH = 10
Codes = Sequence[np.ndarray]


@dataclass(frozen=True)
class Measured:
    """Bytes of the coded weights, and MB of int8 weights coded and decoded in a second of CPU."""

    size_bytes: int
    encode_mb_per_s: float
    decode_mb_per_s: float


def measure(
    codes: Codes, encode: Callable[[Codes], Any], decode: Callable[[Any, Codes], Any]
) -> Measured:
    """Returns size and speed of a codec, and checks that it restores the codes.

    Args:
        codes: int8 tensors.
        encode: returns bytes, or a list of them.
        decode: takes these, and tensors of the shapes to fill; returns the codes one after the
            other.

    Raises:
        ValueError: the codes do not come back.
    """
    megabytes = sum(part.size for part in codes) / 1e6
    began = time.process_time()
    coded = encode(codes)
    encoded = time.process_time()
    back = decode(coded, codes)
    decoded = time.process_time()
    if not np.array_equal(back, _whole(codes)):
        raise ValueError("the codec does not restore the weights")
    size = len(coded) if isinstance(coded, bytes) else sum(map(len, coded))
    return Measured(
        size, megabytes / max(encoded - began, 1e-9), megabytes / max(decoded - encoded, 1e-9)
    )


def _whole(codes: Codes) -> np.ndarray:
    return np.concatenate([part.ravel() for part in codes])


def _general(
    compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
) -> Callable[[Codes], Measured]:
    """One byte per weight, all tensors in one stream."""
    return lambda codes: measure(
        codes,
        lambda parts: compress(_whole(parts).tobytes()),
        lambda coded, _: np.frombuffer(decompress(coded), np.int8),
    )


def _mlw(codes: Codes) -> Measured:
    """Vela's codec of Ethos-U weights, tensor by tensor."""
    from ethosu import mlw_codec

    return measure(
        codes,
        lambda parts: [bytes(mlw_codec.encode(part.ravel().tolist())) for part in parts],
        # Its streams are padded with zeros.
        lambda coded, parts: np.concatenate(
            [
                np.array(mlw_codec.decode(bytearray(c)), np.int64)[: p.size]
                for c, p in zip(coded, parts, strict=True)
            ]
        ),
    )


def _deepcabac(module: Any) -> Callable[[Codes], Measured]:
    off = (module.HdspMode.AlwaysOff, np.zeros(0, np.int8), 0, 0)

    def encode(parts: Codes, options: tuple[int, int]) -> bytes:
        optimized, scan = options
        encoder = module.Encoder()
        encoder.initCtxModels(DEEPCABAC_UNARY_LENGTH - 1, optimized)
        for part in parts:
            rows = part.reshape(len(part), -1).astype(np.int32)
            encoder.encodeLayer(rows, 0, scan, 0, 0, 0, np.zeros(len(rows), np.int32), *off)
        return bytes(encoder.finish())

    def decode(coded: bytes, parts: Codes, options: tuple[int, int]) -> np.ndarray:
        decoder = module.Decoder()
        decoder.setStream(np.frombuffer(coded, np.uint8))
        decoder.initCtxModels(DEEPCABAC_UNARY_LENGTH - 1)
        rows = [np.zeros((len(part), part.size // len(part)), np.int32) for part in parts]
        for row in rows:
            decoder.decodeLayer(row, 0, options[1], 0, 0, *off)
        return _whole(rows)

    def best(codes: Codes) -> Measured:
        found = [
            measure(
                codes,
                lambda parts, o=o: encode(parts, o),
                lambda coded, parts, o=o: decode(coded, parts, o),
            )
            for o in ((0, 0), (1, 0))
        ]
        return min(found, key=lambda one: one.size_bytes)

    return best


def codecs() -> dict[str, Callable[[Codes], Measured]]:
    """Returns every codec that is installed, by name."""
    known = {
        "zlib 9": _general(lambda data: zlib.compress(data, 9), zlib.decompress),
        "bzip2 9": _general(lambda data: bz2.compress(data, 9), bz2.decompress),
        "xz 9e": _general(
            lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME), lzma.decompress
        ),
    }
    if importlib.util.find_spec("brotli"):
        import brotli

        known["brotli 11"] = _general(
            lambda data: brotli.compress(data, quality=11, lgwin=24), brotli.decompress
        )
    if importlib.util.find_spec("zstandard"):
        import zstandard

        packer, unpacker = zstandard.ZstdCompressor(level=19), zstandard.ZstdDecompressor()
        known["zstd 19"] = _general(packer.compress, unpacker.decompress)
    if importlib.util.find_spec("ethosu"):
        known["Vela mlw"] = _mlw
    module = load_deepcabac()
    if module:
        known["DeepCABAC"] = _deepcabac(module)
    return known


def load_deepcabac() -> Any:
    """Returns the extension module in `build/nncodec`, None if it was not built."""
    found = sorted(NNCODEC.glob("nncodec/extensions/deepCABAC*.so"))
    if not found:
        return None
    spec = importlib.util.spec_from_file_location("deepCABAC", found[0])
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Builds DeepCABAC."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--target",
        str(NNCODEC),
    ]
    subprocess.run([*command, "nncodec==2.1.3"], check=True)


if __name__ == "__main__":
    main()
